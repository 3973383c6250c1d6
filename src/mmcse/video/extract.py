"""Videos to files of features, in a known layout: `mmcse extract`.

A video of one window becomes one .npy file a stream, named by the video's id (`video_id` of its file name); a longer
one becomes several entries, `<id>_<start in seconds>`. The first entry is written last: where it is there for all
streams, the video is complete, and a further run leaves it out.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from mmcse.data.annotations import video_id
from mmcse.data.layouts import Stream
from mmcse.errors import MissingFileError, UserError
from mmcse.files import atomic_write, write_json
from mmcse.progress import progress_bar
from mmcse.video.ahead import decoded_ahead
from mmcse.video.decode import Clip

ENDINGS = re.compile(
    r"\.(3gp|avi|flv|m4v|mkv|mov|mp4|mpe?g|ogv|ts|webm|wmv|aac|flac|m4a|mp3|ogg|opus|wav)", re.IGNORECASE
)
"""Of the files that are taken from a folder of videos."""


class Extractor(Protocol):
    """Turns windows into arrays that `extract_features` stores, one file a stream."""

    report_name: str
    """File for what was done."""
    batch_size: int
    """Windows that are encoded together."""

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What is stored of a window, by name and folder."""
        ...

    @property
    def settings(self) -> dict[str, Any]:
        """What the arrays depend on besides the videos, as plain values."""
        ...

    def clips(self, path: Path | str) -> Iterator[Clip]:
        """The windows of a video."""
        ...

    def encode(self, windows: Sequence[Clip]) -> Sequence[Any]:
        """For every window an object with the name of each stream as an attribute, and `start`."""
        ...


@dataclass
class ExtractReport:
    """What a run of `extract_features` did."""

    file: Path
    """Where it is written."""
    settings: dict[str, Any]
    total: int
    already_there: int
    extracted: dict[str, int] = field(default_factory=dict)
    """Number of windows by video id."""
    failures: dict[str, str] = field(default_factory=dict)
    """What is wrong, by video file."""
    without_sound: list[str] = field(default_factory=list)
    """Ids of the videos that have no sound track."""
    without_pictures: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether no video failed."""
        return not self.failures

    def lines(self) -> list[str]:
        """The report for people."""
        counts = {"extracted": len(self.extracted), "there before": self.already_there, "failed": len(self.failures)}
        several = sum(count > 1 for count in self.extracted.values())
        lines = [
            f"{self.file.parent}: {self.total} videos: " + ", ".join(f"{n} {what}" for what, n in counts.items()),
            *(f"failed: {reason}" for reason in self.failures.values()),
        ]
        if several:
            lines.append(
                f"{several} videos are longer than a window, and have an entry <id>_<start> for each of theirs"
            )
        for ids, what in ((self.without_sound, "sound"), (self.without_pictures, "pictures")):
            if ids:
                lines.append(f"{len(ids)} videos have no {what}: {', '.join(ids[:5])}{', ...' if len(ids) > 5 else ''}")
        return lines


def find_videos(paths: Iterable[Path | str]) -> list[Path]:
    """Videos by name, and those in folders (by their endings), in order.

    Raises:
        MissingFileError: there is no such file or folder, or no video in a folder.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(p for p in path.iterdir() if ENDINGS.fullmatch(p.suffix) and not p.name.startswith("."))
            if not inside:
                raise MissingFileError(f"There is no video in {path}; expected files such as {path / 'name.mp4'}.")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise MissingFileError(f"There is no video {path}.")
    return found


def extract_features(
    videos: Sequence[Path | str],
    folder: Path | str,
    extractor: Extractor,
    *,
    workers: int = 2,
    progress: bool = True,
) -> ExtractReport:
    """Extract videos into a folder, in the layout of the extractor's features.

    What is complete is left as it is, so an interrupted run goes on where it stopped, and a finished one does nothing
    but try the failed videos again. The report is written to `extractor.report_name` in the folder, too.

    Args:
        videos: video files, and folders of them.
        folder: where the folders of the layout are, or will be.
        extractor: the encoders.
        workers: threads that decode ahead of the encoders.
        progress: show how far it is, on standard error.

    Returns:
        What was done, and which videos failed and why: one that fails does not stop the others.

    Raises:
        MissingFileError: a file or folder that was named is not there.
        UserError: two videos have the same id, the folder holds features that were made otherwise, or the disk is full.
    """
    folder, named = Path(folder), _by_id(find_videos(videos))
    settings = extractor.settings
    require_same(folder / extractor.report_name, settings)
    waiting = {video: path for video, path in named.items() if not _is_complete(folder, extractor.streams, video)}
    report = ExtractReport(folder / extractor.report_name, settings, len(named), len(named) - len(waiting))
    _write(report)
    bar = progress_bar(
        total=len(named), initial=report.already_there, description="extracting", unit="videos", enabled=progress
    )
    extraction = _Extraction(extractor, report, named)
    decoded = decoded_ahead(waiting, extractor.clips, workers=workers, ahead=extractor.batch_size)
    try:
        with bar:
            for video, item in decoded:
                bar.update(extraction.take(video, item))
            bar.update(extraction.encode())
    finally:
        decoded.close()
        _write(report)
    return report


class _Extraction:
    """Gathers windows of several videos into batches, and writes every video when all of its windows are encoded."""

    def __init__(self, extractor: Extractor, report: ExtractReport, named: Mapping[str, Path]) -> None:
        self.extractor, self.report, self.named = extractor, report, named
        self._batch: list[tuple[str, Clip]] = []
        self._features: dict[str, list[Any]] = {}
        self._open: dict[str, int] = {}  # windows that are not encoded yet, of videos that are decoded to their end

    def take(self, video: str, item: Clip | Exception | None) -> int:
        """A window of a video, what went wrong with it, or its end; returns how many videos are done with."""
        match item:
            case Clip():
                self._batch.append((video, item))
                return self.encode() if len(self._batch) == self.extractor.batch_size else 0
            case None:
                self._open[video] = sum(name == video for name, _ in self._batch)
                return self._finish()
            case _:
                self._batch = [(name, clip) for name, clip in self._batch if name != video]
                self._features.pop(video, None)
                self._fail(video, str(item) if isinstance(item, UserError) else f"{type(item).__name__}: {item}")
                return 1

    def encode(self) -> int:
        """Encode what has gathered; returns how many videos are done with."""
        if self._batch:
            names, windows = zip(*self._batch, strict=True)
            for name, clip, features in zip(names, windows, self.extractor.encode(windows), strict=True):
                self._features.setdefault(name, []).append(features)
                if clip.start == 0 and not clip.has_audio:
                    self.report.without_sound.append(name)
                if clip.start == 0 and not clip.has_visual:
                    self.report.without_pictures.append(name)
            self._open = {video: count - names.count(video) for video, count in self._open.items()}
            self._batch = []
        return self._finish()

    def _finish(self) -> int:
        complete = [video for video, count in self._open.items() if not count]
        for video in complete:
            del self._open[video]
            self._save(video, self._features.pop(video))
        return len(complete)

    def _save(self, video: str, windows: Sequence[Any]) -> None:
        entries = [video if len(windows) == 1 else f"{video}_{window.start:g}" for window in windows]
        for entry in entries:
            if video_id(entry) != entry or (entry != video and entry in self.named):
                return self._fail(video, f"its window {entry} would be taken for another video; rename the file")
        for entry, window in reversed(list(zip(entries, windows, strict=True))):
            for stream in self.extractor.streams:
                with atomic_write(_file(self.report.file.parent, stream, entry)) as handle:
                    np.save(handle, getattr(window, stream.name), allow_pickle=False)
        self.report.extracted[video] = len(windows)
        return None

    def _fail(self, video: str, reason: str) -> None:
        path = str(self.named[video])
        for ids in (self.report.without_sound, self.report.without_pictures):
            if video in ids:
                ids.remove(video)
        self.report.failures[path] = reason if reason.startswith(path) else f"{path}: {reason}"


def _by_id(videos: Sequence[Path]) -> dict[str, Path]:
    """Videos by the id that their files of features get."""
    named = {video_id(path.stem): path for path in videos}
    counts = Counter(video_id(path.stem) for path in videos)
    if repeated := [video for video, count in counts.items() if count > 1]:
        files = [str(path) for path in videos if video_id(path.stem) == repeated[0]]
        raise UserError(
            f"{len(repeated)} ids belong to several videos, such as {repeated[0]}: {', '.join(files[:3])}. Their "
            "features would overwrite each other; rename the files, or extract them into different folders."
        )
    return named


def _file(folder: Path, stream: Stream, entry: str) -> Path:
    return folder / stream.folder / f"{entry}.npy"


def _is_complete(folder: Path, streams: Sequence[Stream], video: str) -> bool:
    return any(all(_file(folder, stream, entry).is_file() for stream in streams) for entry in (video, f"{video}_0"))


def require_same(path: Path, settings: dict[str, Any]) -> None:
    """Refuse to mix features that were made differently.

    Args:
        path: the report beside those that are there, if any are.
        settings: how the others are made.

    Raises:
        UserError: the settings differ, or the report is damaged.
    """
    if different := different_settings(path, settings):
        raise UserError(
            f"{path.parent} holds features that were extracted with another {', '.join(different)}. Choose another "
            f"folder, or remove this one."
        )


def different_settings(path: Path, settings: dict[str, Any]) -> list[str]:
    """Names of the settings by which features were made otherwise; none where no report tells.

    Args:
        path: the report beside the features.
        settings: what to compare with.

    Raises:
        UserError: the report is damaged.
    """
    if not path.is_file():
        return []
    try:
        before = json.loads(path.read_bytes())["settings"]
        return [key for key, value in settings.items() if before.get(key) != value]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{path} is damaged: nobody knows how the features beside it were made. Remove them.") from None


def _write(report: ExtractReport) -> None:
    fields = ("settings", "total", "already_there", "extracted", "failures", "without_sound", "without_pictures")
    write_json(report.file, {name: getattr(report, name) for name in fields})
