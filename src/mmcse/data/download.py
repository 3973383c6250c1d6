"""LLP's annotations, published features and the authors' checkpoints from where their authors put them.

Nothing of this is ours to pass on, so it is fetched from its sources: resumed where a transfer broke off, checked where
a checksum is known, and unpacked without trusting the archive. What cannot be had says what to do by hand.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from mmcse.data.annotations import AUDIO_FILE, KNOWN_FILES, ORIGINAL_AUDIO_FILE, VISUAL_FILE, WEAK_FILES, sha256
from mmcse.data.layouts import layout_named
from mmcse.data.unpack import is_archive, unpack
from mmcse.errors import UserError, one_line

ARCHIVES = "archives"
"""Folder of the archives that features come in; they may be removed when they are unpacked."""
RETRIES = 3
TIMEOUT = 60.0
"""Seconds without a byte after which a transfer is given up."""

_LLP = "https://raw.githubusercontent.com/YapengTian/AVVP-ECCV20"
_BEFORE_CORRECTION = "0b28c1a7eafbd952d8ed5aac67a722fb09306ae4"
"""The last commit with the file of audible events that published numbers were computed with."""


class Source(Protocol):
    """Somewhere a file can be had."""

    @property
    def name(self) -> str:
        """Name of the file."""
        ...

    @property
    def page(self) -> str:
        """Where a person finds it with a browser."""
        ...

    def fetch(self, folder: Path) -> Path:
        """Get it into a folder, or find it there."""
        ...


@dataclass(frozen=True)
class Web:
    """A small file at an address."""

    name: str
    url: str
    checksums: tuple[str, ...] = ()
    """sha256 of the editions it may be; none are known of some files."""

    @property
    def page(self) -> str:
        """Where a person finds it with a browser."""
        return self.url

    def fetch(self, folder: Path) -> Path:
        """Get it into a folder, or find it there; a file that fails its checksum is not kept."""
        pooch = _library("pooch")
        path = folder / self.name
        if path.is_file() and (not self.checksums or sha256(path) in self.checksums):
            return path
        with _explained(self, path):
            downloader = pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=False)
            source = pooch.create(folder, "", registry={self.name: None}, urls={self.name: self.url})
            source.retry_if_failed = RETRIES
            path.unlink(missing_ok=True)
            source.fetch(self.name, downloader=downloader)
        if self.checksums and sha256(path) not in self.checksums:
            path.unlink()
            raise UserError(
                f"{self.url} is not the {self.name} that is known: its checksum differs, so it was changed there or "
                f"damaged on the way. {_by_hand(self, path)}"
            )
        return path


@dataclass(frozen=True)
class Hub:
    """A file of a repository of the Hugging Face hub."""

    name: str
    repository: str
    kind: str = "model"

    @property
    def page(self) -> str:
        """Where a person finds it with a browser."""
        return f"https://huggingface.co/{'datasets/' * (self.kind == 'dataset')}{self.repository}"

    def fetch(self, folder: Path) -> Path:
        """Get it into a folder, or find it there."""
        hub = _library("huggingface_hub")
        path = folder / self.name
        if path.is_file():  # what is not complete has another name
            return path
        with _explained(self, path):
            return Path(hub.hf_hub_download(self.repository, self.name, repo_type=self.kind, local_dir=folder))


@dataclass(frozen=True)
class Drive:
    """A large file that Google Drive shares."""

    name: str
    url: str

    @property
    def page(self) -> str:
        """Where a person finds it with a browser."""
        return self.url

    def fetch(self, folder: Path) -> Path:
        """Get it into a folder, or find it there."""
        gdown = _library("gdown")
        path = folder / self.name
        if path.is_file():  # what is not complete has another name
            return path
        with _explained(self, path):
            folder.mkdir(parents=True, exist_ok=True)
            gdown.download(self.url, str(path), resume=True, retries=RETRIES, timeout=TIMEOUT, use_cookies=False)
        return path


def _editions(*editions: str) -> tuple[str, ...]:
    """Checksums of the files of an edition."""
    return tuple(checksum for checksum, edition in KNOWN_FILES.items() if edition in editions)


ANNOTATIONS = (
    *(
        Web(name, f"{_LLP}/master/data/{name}", _editions("LLP"))
        for name in (*WEAK_FILES.values(), "AVVP_dataset_full.csv", VISUAL_FILE)
    ),
    Web(AUDIO_FILE, f"{_LLP}/master/data/{AUDIO_FILE}", _editions("LLP as corrected later")),
    Web(
        ORIGINAL_AUDIO_FILE,
        f"{_LLP}/{_BEFORE_CORRECTION}/data/{AUDIO_FILE}",
        _editions("LLP as used by published numbers"),
    ),
)
FEATURES = (
    Hub("CLIP.zip", "NTUBarista/valor_features", "dataset"),
    Hub("CLAP.zip", "NTUBarista/valor_features", "dataset"),
    Drive("LLP-features", "https://drive.google.com/uc?id=10CeaI1G9uIyz5dKnd7XTeH9-qOehC7CL"),
)
"""Archives; folders of both layouts are in them."""
CHECKPOINTS = {
    "mmcse": (
        Web("checkpoint_best.pth", "https://github.com/PengchengZhao1001/MM-CSE/raw/HEAD/code/checkpoint_best.pth"),
    ),
    "valor": tuple(
        Hub(f"{name}/checkpoint_best.pt", "NTUBarista/valor_trained_models")
        for name in ("model_VALOR", "model_VALOR+", "model_VALOR++")
    ),
}


def download_annotations(folder: Path | str) -> list[Path]:
    """Fetch LLP's annotation files, checked, and the file of audible events as it was before its correction.

    Raises:
        UserError: a file cannot be had, or is none of the known editions.
    """
    return [source.fetch(Path(folder)) for source in ANNOTATIONS]


def download_features(folder: Path | str, layout: str, *, progress: bool = True) -> int:
    """Fetch the archives of published features and unpack a layout's folders from them.

    What is unpacked is not fetched again, whether its archive is still there or not.

    Args:
        folder: where the folders of the layout will be; the archives go to `ARCHIVES` in it.
        layout: "valor" or "llp".
        progress: show how far it is, on standard error.

    Returns:
        How many files were unpacked.

    Raises:
        UserError: an archive cannot be had, or is not what it should be.
    """
    folder, count = Path(folder), 0
    wanted = [stream.folder for stream in layout_named(layout).streams]
    for source in FEATURES:
        marker = folder / ARCHIVES / f"{source.name}.{layout}.unpacked"
        if marker.is_file():
            continue
        archive = source.fetch(folder / ARCHIVES)
        if not is_archive(archive):
            archive.unlink()
            by_hand = _by_hand(source, archive)
            raise UserError(f"{source.page} gave no archive but a page, as it does under load. {by_hand}")
        count += unpack(archive, folder, wanted, progress=progress)
        marker.touch()
    return count


def download_checkpoint(folder: Path | str, model: str) -> list[Path]:
    """Fetch the authors' checkpoints of a method: "mmcse" or "valor".

    Raises:
        UserError: it cannot be had, or a page came in its place.
    """
    paths = []
    for source in CHECKPOINTS[model]:
        path = source.fetch(Path(folder))
        if path.read_bytes()[:64].lstrip().lower().startswith((b"<", b"version https://git-lfs")):
            path.unlink()
            raise UserError(f"{source.page} gave a page in place of {source.name}. {_by_hand(source, path)}")
        paths.append(path)
    return paths


def _by_hand(source: Source, path: Path) -> str:
    return f"Fetch {source.name} from {source.page} with a browser, save it as {path}, and run the same command again."


@contextmanager
def _explained(source: Source, path: Path) -> Iterator[None]:
    """Turn what goes wrong in a transfer into an error that says what to do; what has arrived is kept."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # each client raises its own, and those of what it is built on
        status = getattr(getattr(error, "response", None), "status_code", None)
        match status, type(error).__name__:
            case (404 | 410, _) | (_, "EntryNotFoundError" | "RemoteEntryNotFoundError" | "RepositoryNotFoundError"):
                reason = "is gone from there"
            case (403 | 429 | 503, _) | (_, "FileURLRetrievalError"):
                reason = "is not given out now: too many people fetch it (its quota), which passes within a day"
            case _:
                reason = f"did not arrive ({one_line(error)}); the same command goes on with what has"
        raise UserError(f"{source.page}: {source.name} {reason}. {_by_hand(source, path)}") from None


def _library(name: str) -> Any:
    """A client for downloads.

    Raises:
        UserError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        raise UserError(f"Downloads need {name}. Install it with: pip install 'mmcse[download]'") from None
