"""Archives of feature files, unpacked without trusting them."""

import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from mmcse.data.npy import size_text
from mmcse.errors import UserError
from mmcse.files import atomic_write
from mmcse.progress import progress_bar

LARGEST_FILE = 16 * 10**6
"""Bytes; 80 frames of ResNet-152 are 655 kB."""
LARGEST_ARCHIVE = 100 * 10**9
"""Bytes of all files together."""


class Member(NamedTuple):
    """An entry of an archive."""

    name: str
    size: int
    is_file: bool
    """A regular file; not a folder, link or device."""
    open: Callable[[], IO[bytes] | None]


def is_archive(path: Path) -> bool:
    """Whether a file can be unpacked here: a zip or a tar, compressed or not."""
    return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)


def unpack(archive: Path, folder: Path, wanted: Sequence[str], *, progress: bool = True) -> int:
    """Write the feature files of some folders of an archive, leaving out those that are there.

    The archive names a file but never where it goes: that is the one of the wanted folders in which it lies.

    Args:
        archive: a zip or a tar.
        folder: where the wanted folders will be.
        wanted: such as "CLIP/features", at any depth of the archive.
        progress: show how far it is, on standard error.

    Returns:
        How many files were written.

    Raises:
        UserError: the archive is damaged or holds none of the folders; or it holds what no archive of features does:
            links, names that lead out of it, files of absurd size.
    """
    with _members(archive) as members:
        targets = {target: member for member in members if (target := _target(member, archive, wanted))}
        if not targets:
            raise UserError(f"{archive} holds no .npy file in any of the folders {', '.join(wanted)}.")
        if (size := sum(member.size for member in targets.values())) > LARGEST_ARCHIVE:
            raise UserError(
                f"{archive} would unpack to {size_text(size)}; expected {size_text(LARGEST_ARCHIVE)} at most."
            )
        missing = {
            target: member
            for target, member in targets.items()
            if not ((path := folder / target).is_file() and path.stat().st_size == member.size)
        }
        bar = progress_bar(
            missing.items(),
            total=len(missing),
            description=f"unpacking {archive.name}",
            unit="files",
            enabled=progress,
        )
        for target, member in bar:
            with _reading(archive), atomic_write(folder / target) as handle:
                content = member.open()
                if content is None:
                    raise zipfile.BadZipFile(f"{member.name} has no content")
                with content:
                    shutil.copyfileobj(content, handle)
                if handle.tell() != member.size:
                    raise zipfile.BadZipFile(f"{member.name} is not of the size it says")
        return len(missing)


def _target(member: Member, archive: Path, wanted: Sequence[str]) -> str | None:
    """Where a member goes below the folder; None for what is not wanted."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts or "\\" in member.name:
        raise UserError(f"{archive} is not to be trusted: it names {member.name!r}, outside of itself.")
    found = [name for name in wanted if f"/{path.parent}".endswith(f"/{name}")]
    if not found or not re.fullmatch(r"[\w-]+\.npy", path.name):
        return None
    if not member.is_file:
        raise UserError(f"{archive} is not to be trusted: {member.name!r} is a link, where a file is expected.")
    if member.size > LARGEST_FILE:
        raise UserError(
            f"{archive} is not to be trusted: {member.name!r} is {size_text(member.size)}, a file of features is "
            f"{size_text(LARGEST_FILE)} at most."
        )
    return f"{found[0]}/{path.name}"


@contextmanager
def _members(archive: Path) -> Iterator[list[Member]]:
    """The entries of an archive, open."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as zipped:
            yield [
                Member(
                    info.filename,
                    info.file_size,
                    not info.is_dir() and not stat.S_ISLNK(info.external_attr >> 16),
                    lambda info=info: zipped.open(info),
                )
                for info in zipped.infolist()
            ]
    else:
        with tarfile.open(archive) as tarred:
            with _reading(archive):
                infos = tarred.getmembers()
                while tarred.fileobj and tarred.fileobj.read(2**20):  # to its end, where its checksum is
                    pass
            yield [
                Member(info.name, info.size, info.isfile(), lambda info=info: tarred.extractfile(info))
                for info in infos
            ]


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Turn damage of an archive into an error that says what to do."""
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, OSError, ValueError, NotImplementedError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(
            f"{archive} is damaged ({error}). Remove it and run the same command again: what is unpacked is kept."
        ) from None
