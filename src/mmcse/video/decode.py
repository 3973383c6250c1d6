"""Videos to clips: frames at a fixed rate and mono sound in windows of exact length.

Time is taken from the time stamps of the file and begins with its earliest track. A frame of a clip is the one that is
on display at that moment, whatever the frame rate of the video and however it varies; sound that a file leaves out is
silence. Rotation flags are applied. Decoding streams: a video of hours takes no more memory than its windows.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mmcse.errors import UserError
from mmcse.video.container import Media, VideoError, decoded, probe
from mmcse.video.windows import Track, spans

if TYPE_CHECKING:
    from av.audio.frame import AudioFrame
    from av.video.frame import VideoFrame

log = logging.getLogger(__name__)

REMAINDER = 1.0
"""Seconds, the length of a segment: material after the last full window that is shorter than this is left out."""
_JITTER = 0.05
"""Seconds by which the time stamps of sound may be off without meaning a gap or an overlap."""
_ROUNDING = 1e-3
"""Seconds by which the time stamps of frames are rounded; Matroska counts milliseconds."""


@dataclass(frozen=True)
class Clip:
    """A window of a video. F frames, T segments of one second."""

    path: Path
    start: float
    """Where in the video it begins, in seconds."""
    duration: float
    """Seconds of real material; what is missing to the window is black and silent."""
    frames: np.ndarray
    """(F, H, W, 3) uint8, RGB, at the frame rate asked for."""
    audio: dict[int, np.ndarray]
    """By sample rate: (n,) float32, mono, in [-1, 1]."""
    has_audio: bool
    """Whether the file has a sound track; otherwise `audio` is silence."""
    has_visual: bool
    """Whether the file has a picture track; otherwise `frames` are black."""
    num_segments: int
    """T: seconds of the window."""


def clips(
    path: Path | str,
    *,
    window: float = 10.0,
    stride: float | None = None,
    sample_rates: Sequence[int],
    fps: float = 8,
    size: int | None = None,
) -> Iterator[Clip]:
    """Decode a video window by window.

    Args:
        path: a file that FFmpeg can read.
        window: T, seconds of a clip; a whole number.
        stride: seconds from one clip's start to the next one's (default: the window). A video shorter than the window
            is padded; a further clip is there only if it adds a segment (one second) of material or more.
        sample_rates: rates at which the sound is wanted, in Hz. Channels are averaged.
        fps: frames per second.
        size: frames whose shorter side is longer than this are scaled down to it, keeping their proportions.

    Yields:
        Clips of window * fps frames and window * rate samples, exactly.

    Raises:
        MissingFileError: there is no such file.
        VideoError: it is not a video, or nothing in it can be decoded.
        UserError: the window is not a whole number of seconds or of frames, or PyAV is not installed.
    """
    path, stride = Path(path), stride or window
    if window < 1 or window % 1 or (window * fps) % 1 or stride <= 0:
        raise UserError(f"A window of {window} s with a stride of {stride} s cannot be cut: expected whole seconds.")
    media = probe(path)
    visual = Track(_frames(path, media, fps, size) if media.visual else (), fps, hold=True)
    sound = tee(_sound(path, media) if media.audio and sample_rates else (), len(sample_rates))
    audio = {rate: Track(_resampled(copy, rate), rate) for rate, copy in zip(sample_rates, sound, strict=True)}
    material = 0.0
    for start, duration, material in spans((visual, *audio.values()), window, stride, REMAINDER):
        frames = visual.take(start, round(window * fps), material)
        samples = {rate: track.take(start, round(window * rate), material) for rate, track in audio.items()}
        yield Clip(
            path,
            start,
            duration,
            np.zeros((round(window * fps), 224, 224, 3), np.uint8) if frames is None else frames,
            {
                rate: np.zeros(round(window * rate), np.float32) if mono is None else np.clip(mono, -1, 1)
                for rate, mono in samples.items()
            },
            has_audio=media.audio and all(mono is not None for mono in samples.values()),
            has_visual=frames is not None,
            num_segments=round(window),
        )
    if not material:
        raise VideoError(f"{path}: nothing in it can be decoded; the file is damaged. Expected a video.")
    if sample_rates and media.duration and material < media.duration - REMAINDER:
        log.warning(f"{path} ends early: it says it has {media.duration:.1f} s, and {material:.1f} s are there.")


def _frames(path: Path, media: Media, fps: float, size: int | None) -> Iterator[tuple[np.ndarray, float]]:
    """The picture on display at every tick, (1, H, W, 3), with the end of what is known so far.

    What is shown first is shown from the beginning.
    """
    held, picture, nothing, shape, tick, end = None, None, None, None, 0, 0.0

    def shown(until: float) -> Iterator[tuple[np.ndarray, float]]:
        nonlocal picture, nothing, shape, tick
        while held is not None and tick / fps < until - _ROUNDING:
            if picture is None:  # only what is seen is converted
                shape = shape or _scaled(held.width, held.height, size)
                picture = _picture(held, *shape)
                nothing = picture[:0]
            yield picture, until
            tick += 1

    for frame, time in decoded(path, "video", media):
        time = end if time is None else time
        yield from shown(time)
        held, picture, end = frame, None, max(end, time + _display_time(frame))
    yield from shown(end)
    if nothing is not None:
        yield nothing, end


def _display_time(frame: "VideoFrame") -> float:
    """Seconds a frame stays if none follows."""
    return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 0.04


def _scaled(width: int, height: int, size: int | None) -> tuple[int, int]:
    """Width and height with a shorter side of at most `size`."""
    scale = min(1.0, (size or width) / min(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)


def _picture(frame: "VideoFrame", width: int, height: int) -> np.ndarray:
    """A frame (1, H, W, 3) as it is to be looked at: RGB, turned as its flag says."""
    scaled = frame.reformat(width, height, "rgb24", interpolation="BICUBIC")
    return np.rot90(scaled.to_ndarray(), round(frame.rotation / 90))[None]


def _sound(path: Path, media: Media) -> Iterator[tuple[np.ndarray, int]]:
    """The mean of all channels (n,) without gaps from the beginning on, and its sample rate, chunk by chunk."""
    end = 0.0
    for frame, time in decoded(path, "audio", media):
        samples, rate = _mono(frame), frame.sample_rate
        gap = 0.0 if time is None else time - end
        if gap > (_JITTER if end else 0):
            missing = round(gap * rate)
            end += missing / rate
            for start in range(0, missing, rate):
                yield np.zeros(min(rate, missing - start), np.float32), rate
        elif gap < -_JITTER or (end == 0 and gap < 0):
            samples = samples[round(-gap * rate) :]
        end += len(samples) / rate
        yield samples, rate


def _mono(frame: "AudioFrame") -> np.ndarray:
    """The mean of the channels of a frame, (n,) in float32.

    Not FFmpeg's own: its mono is louder than the mean (by 3 dB, of two channels) and than what VALOR was made of.
    """
    array = frame.to_ndarray()
    if frame.format.is_packed:
        array = array.reshape(-1, frame.layout.nb_channels).T
    if array.dtype.kind == "u":
        array = (array.astype(np.float32) - 128) / 128
    elif array.dtype.kind == "i":
        array = array / 2.0 ** (8 * array.itemsize - 1)
    return array.mean(axis=0, dtype=np.float32)


def _resampled(chunks: Iterable[tuple[np.ndarray, int]], rate: int) -> Iterator[tuple[np.ndarray, float]]:
    """Sound (n,) at another sample rate, with the end of what is known so far."""
    from av.audio.frame import AudioFrame
    from av.audio.resampler import AudioResampler

    resampler, current, count = None, 0, 0

    def output(frame: "AudioFrame | None") -> Iterator[tuple[np.ndarray, float]]:
        nonlocal count
        for part in resampler.resample(frame) if resampler else ():
            samples = part.to_ndarray()[0]
            count += len(samples)
            yield samples, count / rate

    for samples, source in chunks:
        if source != current:
            yield from output(None)
            resampler, current = AudioResampler("fltp", "mono", rate), source
        frame = AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32)[None], "fltp", "mono")
        frame.sample_rate = source
        yield from output(frame)
    yield from output(None)
