"""The errors a user can cause and mend; everything else that is raised is a bug of ours.

A message says what was found, what was expected and what to do. The command line prints it as one paragraph,
without a stack trace.
"""

import errno
import os
from collections.abc import Sequence

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NO_LEAVE = {errno.EACCES, errno.EPERM, errno.EROFS}
_LOST = {errno.EIO, errno.ESTALE, errno.ENODEV, errno.ENXIO, errno.ENOTCONN, errno.EHOSTDOWN, errno.ETIMEDOUT}


class UserError(ValueError):
    """Something the user gave (a file, an option, a value) cannot be used as it is."""


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder the user named, or one that should lie inside it, is not there."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class DivergedError(UserError):
    """Training came to a number that is not finite.

    Args:
        what: is not finite, as the subject of a sentence.
        epoch: of the batch, from 0.
        batch_idx: its place in the epoch, from 0.
        ids: of its videos.
    """

    def __init__(self, what: str, epoch: int, batch_idx: int, ids: Sequence[str]) -> None:
        super().__init__(
            f"Training diverged: {what} not finite in epoch {epoch + 1}, batch {batch_idx + 1} (videos "
            f"{', '.join(ids[:3])}, ...). A lower optimizer.lr may help; if it was low, look for extreme features with "
            "`mmcse data check`."
        )
        self.what, self.epoch, self.batch_idx, self.ids = what, epoch, batch_idx, tuple(ids)


def one_line(error: BaseException, most: int = 300) -> str:
    """What an error of a library says, as one line of a message of ours.

    Args:
        error: as it was raised.
        most: characters that are kept.
    """
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= most else f"{text[:most]} ..."


def disk_failure(error: OSError, path: str | os.PathLike[str] | None = None, kept: str = "") -> UserError | None:
    """What to tell a user whose disk, folder or network drive is at fault; None where it is none of these.

    Args:
        error: as the system raised it.
        path: what was being read or written; by default what the error names.
        kept: a sentence on what is not lost.
    """
    place = path or error.filename or "a file"
    if error.errno in _NO_SPACE:
        reason, advice = "No space left", "Free some space, or choose another folder, and run the same command again."
    elif error.errno in _NO_LEAVE:
        reason, advice = "No permission", "Choose a folder that you may read and write."
    elif error.errno in _LOST:
        reason, advice = "The disk or network drive fails", "Once it is back, run the same command again."
    else:
        return None
    return UserError(" ".join(filter(None, (f"{reason} at {place} ({error.strerror}).", kept, advice))))
