"""What is wrong with a layout folder or a bank, exactly and all at once: `mmcse data check`."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mmcse.data.annotations import WEAK_FILES, Annotations, read_annotations, read_ids, sha256
from mmcse.data.layouts import Layout, PseudoLabels, Stream, files_by_id, layout_named
from mmcse.data.manifest import FEATURES, MANIFEST, PSEUDO_LABELS, Manifest
from mmcse.data.npy import DamagedFileError, map_array
from mmcse.data.survey import needs, sample
from mmcse.errors import MissingFileError, UserError
from mmcse.progress import progress_bar
from mmcse.vocabulary import LLP_CLASSES

READERS = 8
"""Threads that read files; they mostly wait for the disk."""
ROWS = 256
"""Videos of a bank that are looked at together."""


class Finding(NamedTuple):
    """One thing found; prints as one line."""

    stream: str
    kind: str
    item: str
    """Video id or file."""
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.stream}: {self.kind}: {self.item}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True)
class CheckReport:
    """What a check found. Problems keep the data from being used; remarks are worth knowing."""

    folder: Path
    num_files: int
    """Files that were looked at."""
    problems: tuple[Finding, ...] = ()
    remarks: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """How many problems there are, by stream and kind."""
        return Counter((problem.stream, problem.kind) for problem in self.problems)

    def lines(self, names: int | None = 5) -> list[str]:
        """The report for people, problems first.

        Args:
            names: how many items to name of each stream and kind; None names each on a line of its own, with details.
        """
        verdict = "no problem" if self.ok else f"{len(self.problems)} problem(s)"
        lines = [f"{self.folder}: {self.num_files} files checked, {verdict}"]
        for title, findings in (("", self.problems), ("remark: ", self.remarks)):
            if names is None:
                lines += [f"{title}{finding}" for finding in findings]
            else:
                lines += [f"{title}{line}" for line in _summary(findings, names)]
        return lines


def check_layout(
    features: Path | str,
    annotations: Path | str,
    layout: str | Layout,
    *,
    splits: Sequence[str] = tuple(WEAK_FILES),
    num_segments: int = 10,
    classes: Sequence[str] = LLP_CLASSES,
    progress: bool = True,
) -> CheckReport:
    """Read every file that the annotated videos need.

    Args:
        features: folder in one of the known layouts.
        annotations: folder with LLP's annotation files.
        layout: "valor", "llp", or a `Layout`.
        splits: whose videos are needed. A file is extra if no split of the annotations lists its video.
        num_segments: T.
        classes: the vocabulary, K names in order.
        progress: show how far it is, on standard error.

    Returns:
        Problems by stream: missing, truncated, unreadable, pickled, misshapen, of a wrong dtype, not finite,
        not 0 or 1, extra. Remarks: blemishes of the annotations, unusual widths, absent pseudo labels and such that
        the weak label does not allow.

    Raises:
        UserError: the annotations themselves cannot be used.
    """
    features, annotations, layout = Path(features), Path(annotations), layout_named(layout)
    labels = [read_annotations(annotations, s, classes=classes, num_segments=num_segments) for s in splits]
    problems, remarks, count = [], list(_blemishes(labels)), 0
    weak = {video: row for split in labels for video, row in zip(split.ids, split.weak, strict=True)}
    listed = set(weak).union(*(read_ids(annotations, split) for split in WEAK_FILES if split not in splits))
    for stream in layout.streams:
        try:
            listing = files_by_id(features / stream.folder)
        except MissingFileError as error:
            report = problems if isinstance(stream, Stream) else remarks
            report.append(Finding(stream.name, "no folder", stream.folder, str(error)))
            continue
        needed = [video for split in labels if needs(stream, listing, split.ids) for video in split.ids]
        problems += [Finding(stream.name, "missing", video) for video in needed if video not in listing]
        problems += [Finding(stream.name, "extra", video) for video in listing if video not in listed]
        files = {video: listing[video] for video in needed if video in listing}
        count += len(files)
        if isinstance(stream, Stream):
            shape = _usual_shape(stream, list(files.values()), num_segments)
            if shape[1] != stream.width:
                detail = f"{shape[1]}, where the extractors of layout {layout.name!r} give {stream.width}"
                remarks.append(Finding(stream.name, "unusual width", stream.folder, detail))
        else:
            shape = (num_segments, len(classes))
        found_problems, found_remarks = _read_all(stream, files, shape, weak, progress)
        problems += found_problems
        remarks += found_remarks
    return CheckReport(features, count, tuple(problems), tuple(remarks))


def check_bank(folder: Path | str, *, progress: bool = True) -> CheckReport:
    """Verify every array of a bank: shape, dtype, size, checksum and values.

    Raises:
        MissingFileError: there is no bank.
        UserError: its manifest is damaged.
    """
    folder = Path(folder)
    manifest = Manifest.read(folder)
    arrays = [(split, name) for split, entry in manifest.splits.items() for name in entry.arrays]
    with ThreadPoolExecutor(READERS) as pool:
        checks = pool.map(lambda array: list(_check_array(folder, manifest, *array)), arrays)
        bar = progress_bar(checks, total=len(arrays), description="checking", unit="arrays", enabled=progress)
        problems = [problem for found in bar for problem in found]
    known = {folder / MANIFEST} | {folder / split / f"{name}.npy" for split, name in arrays}
    extra = [path for path in sorted(folder.rglob("*")) if path.is_file() and path not in known]
    problems += [Finding("bank", "extra", str(path.relative_to(folder))) for path in extra]
    remarks = [
        Finding("bank", "skipped videos", split, f"{entry.skipped} were left out when the bank was prepared")
        for split, entry in manifest.splits.items()
        if entry.skipped
    ]
    if not problems:
        remarks += [remark for split in manifest.splits for remark in _beyond_weak(folder / split, manifest, split)]
    return CheckReport(folder, len(arrays), tuple(problems), tuple(remarks))


def _summary(findings: Sequence[Finding], names: int) -> Iterator[str]:
    """One line for each stream and kind."""
    for stream, kind in dict.fromkeys((finding.stream, finding.kind) for finding in findings):
        group = [finding for finding in findings if (finding.stream, finding.kind) == (stream, kind)]
        if len(group) == 1:
            yield str(group[0])
        else:
            items = ", ".join(finding.item for finding in group[:names])
            yield f"{stream}: {len(group)} {kind}: {items}" + (", ..." if len(group) > names else "")


def _blemishes(labels: Sequence[Annotations]) -> Iterator[Finding]:
    """The blemishes of the annotations, once each: both dense splits report a row that belongs to neither."""
    seen = dict.fromkeys(blemish for split in labels for blemish in split.blemishes)
    return (Finding("annotations", blemish.kind, blemish.where, blemish.what) for blemish in seen)


def _usual_shape(stream: Stream, files: Sequence[Path], num_segments: int) -> tuple[int, int]:
    try:
        return stream.usual_shape(sample(files), num_segments)
    except UserError:  # nothing to go by; every file will be found wrong on its own
        return (stream.tokens or num_segments, stream.width)


def _read_all(
    stream: Stream | PseudoLabels,
    files: Mapping[str, Path],
    shape: tuple[int, int],
    weak: Mapping[str, np.ndarray],
    progress: bool,
) -> tuple[list[Finding], list[Finding]]:
    """Problems and remarks from reading every file of a stream."""

    def read(video: str) -> tuple[Finding | None, Finding | None]:
        try:
            array = stream.read(files[video], shape)
        except DamagedFileError as error:
            return Finding(stream.name, error.kind, video, error.reason), None
        if isinstance(stream, PseudoLabels) and (array.astype(bool) & ~weak[video]).any():
            return None, Finding(stream.name, "beyond the weak label", video)
        return None, None

    with ThreadPoolExecutor(READERS) as pool:
        found = list(
            progress_bar(
                pool.map(read, files),
                total=len(files),
                description=f"checking {stream.name}",
                unit="videos",
                enabled=progress,
            )
        )
    return [problem for problem, _ in found if problem], [remark for _, remark in found if remark]


def _check_array(folder: Path, manifest: Manifest, split: str, name: str) -> Iterator[Finding]:
    """Problems of one array of a bank."""
    path, where = folder / split / f"{name}.npy", f"{split} {name}"
    try:
        manifest.check_header(folder, split, name)
        array = map_array(path)
    except UserError as error:
        kind = error.kind if isinstance(error, DamagedFileError) else "misshapen"
        yield Finding(where, "missing" if isinstance(error, MissingFileError) else kind, path.name, str(error))
        return
    if sha256(path) != manifest.splits[split].arrays[name].sha256:
        yield Finding(where, "changed", path.name, f"its checksum is not the one in {MANIFEST}")
    if name == "ids":
        if len(np.unique(array)) < len(array):
            yield Finding(where, "repeated ids", path.name)
        return
    chunks = (array[start : start + ROWS] for start in range(0, len(array), ROWS))
    if name in FEATURES:
        if bad := sum(int((~np.isfinite(chunk)).any(axis=(1, 2)).sum()) for chunk in chunks):
            yield Finding(where, "not finite", path.name, f"{bad} videos hold NaN or infinite values")
    elif any((chunk > 1).any() for chunk in chunks):
        yield Finding(where, "not 0 or 1", path.name)


def _beyond_weak(folder: Path, manifest: Manifest, split: str) -> Iterator[Finding]:
    """Pseudo labels of events that the weak label does not name."""
    weak, ids = map_array(folder / "weak.npy"), map_array(folder / "ids.npy")
    for name in PSEUDO_LABELS:
        if name in manifest.splits[split].arrays:
            beyond = (map_array(folder / f"{name}.npy").any(axis=1) & ~weak.astype(bool)).any(axis=1)
            for video in ids[beyond]:
                yield Finding(f"{split} {name}", "beyond the weak label", str(video))
