"""Video files as FFmpeg reads them: what they say they hold, and the frames of their tracks.

Nothing but the file itself is opened, whatever its name or content says.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from mmcse.errors import MissingFileError, UserError

if TYPE_CHECKING:
    from av.container import InputContainer

log = logging.getLogger(__name__)

_BEYOND = 60.0
"""Seconds that a track may go on after the declared end of its video."""
_NOT_VIDEO = ("tty", "image2", "pipe")
"""Ends of the names of FFmpeg's formats that are text and pictures, which it would read as a film."""


class VideoError(UserError):
    """A file that cannot be used as a video; one line."""


def declared_duration(path: Path) -> float | None:
    """Seconds that a video says it has, which may be wrong; None where it says nothing.

    Raises:
        MissingFileError: there is no such file.
        VideoError: it is not a video.
    """
    with _opened(path) as container:
        return _duration(container)


class Media(NamedTuple):
    """What a file says it holds."""

    zero: float
    """Time stamp at which it begins, in seconds."""
    duration: float | None
    """Seconds."""
    audio: bool
    """Whether it has a sound track."""
    visual: bool
    """Whether it has a picture track."""

    @property
    def limit(self) -> float:
        """Seconds beyond which time stamps are taken as damaged."""
        return float("inf") if self.duration is None else self.duration + _BEYOND


@contextmanager
def _opened(path: Path) -> Iterator["InputContainer"]:
    """The file, open; what FFmpeg says of a file that is none of its is one line."""
    try:
        import av
        from av.error import FFmpegError
    except ImportError:
        raise UserError("Decoding videos needs PyAV. Install it with: pip install 'mmcse[video]'") from None
    if not path.exists():
        raise MissingFileError(f"There is no video {path}.")
    if not path.is_file():
        raise VideoError(f"{path} is not a file. Expected a video.")
    try:
        # "file:" and the white list: neither a name nor a playlist makes FFmpeg open anything else
        container = av.open(f"file:{path}", options={"protocol_whitelist": "file"}, metadata_errors="replace")
    except (FFmpegError, OSError) as error:
        raise VideoError(f"{path} cannot be read as a video: {error.strerror}. Is it complete?") from None
    with container:
        if container.format.name.endswith(_NOT_VIDEO):
            raise VideoError(f"{path} is not a video: FFmpeg reads it as {container.format.long_name}.")
        yield container


def probe(path: Path) -> Media:
    """What a file says it holds; what it lacks is a warning.

    Raises:
        MissingFileError: there is no such file.
        VideoError: it is not a video, or has neither track.
    """
    with _opened(path) as container:
        zero, duration = (container.start_time or 0) / 1e6, _duration(container)
        audio, visual = _stream(container, "audio") is not None, _stream(container, "video") is not None
    if not (audio or visual):
        raise VideoError(f"{path} holds neither sound nor pictures.")
    if not audio:
        log.warning(f"{path} has no sound track: it is taken as silent.")
    if not visual:
        log.warning(f"{path} has no picture track: it is taken as black.")
    return Media(zero, duration, audio, visual)


def _duration(container: "InputContainer") -> float | None:
    return None if container.duration is None else container.duration / 1e6


def _stream(container: "InputContainer", kind: Literal["audio", "video"]) -> Any:
    """The track FFmpeg takes for the main one; a cover picture is none."""
    from av.stream import Disposition

    stream = container.streams.best(kind)
    return None if stream is None or stream.disposition & Disposition.attached_pic else stream


def decoded(path: Path, kind: Literal["audio", "video"], media: Media) -> Iterator[tuple[Any, float | None]]:
    """The frames of a track, with their times in seconds; damaged packets are skipped, and counted in one warning."""
    from av.error import FFmpegError

    damaged = 0
    with _opened(path) as container:
        stream = _stream(container, kind)
        stream.thread_type = "AUTO"
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                frames = packet.decode()
            except FFmpegError:  # of a packet; where the file cannot be read any further, there are no more of them
                damaged += 1
                continue
            for frame in frames:
                time = None if frame.pts is None else float(frame.pts * frame.time_base) - media.zero
                if time is None or time < media.limit:
                    yield frame, time
    if damaged:
        log.warning(f"{path} is damaged: {damaged} pieces of its {kind} track cannot be decoded and are left out.")
