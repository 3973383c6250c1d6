"""Real encoded videos for tests: tones and moving shapes, with whatever oddity is asked for."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

av = pytest.importorskip("av", reason="decoding needs mmcse[video]")

TONE = 440.0


def tone(seconds: float, rate: int = 44100, *, frequency: float = TONE, level: float = 0.5) -> np.ndarray:
    """A sine (n,)."""
    return (level * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def shapes(times: Sequence[float], width: int = 96, height: int = 64) -> np.ndarray:
    """Frames (n, H, W, 3): the grey of all of a frame is its time times 20, with a red square that moves right."""
    frames = np.empty((len(times), height, width, 3), np.uint8)
    for frame, time in zip(frames, times, strict=True):
        frame[:] = min(round(20 * time), 255)
        left = round(4 * time) % (width - 16)
        frame[:16, left : left + 16] = (255, 0, 0)
    return frames


def grey(frame: np.ndarray) -> float:
    """The time a frame of `shapes` was made for."""
    return float(frame[frame.shape[0] // 2 :].mean()) / 20


def make_video(
    path: Path,
    seconds: float = 10.0,
    *,
    fps: float = 25,
    times: Sequence[float] | None = None,
    size: tuple[int, int] = (96, 64),
    frames: np.ndarray | None = None,
    sound: np.ndarray | None = None,
    rate: int = 44100,
    sound_start: float = 0.0,
    visual: bool = True,
    audio: bool = True,
    rotation: int = 0,
    codecs: tuple[str, str] = ("libx264", "aac"),
) -> Path:
    """Write a video.

    Args:
        path: its ending says the container.
        seconds: its length.
        fps: frames per second.
        times: when each frame is shown, in seconds; in place of `fps`.
        size: width and height of the frames.
        frames: (n, H, W, 3) uint8, in place of `shapes`.
        sound: (n,) or (channels, n) float32, in place of a tone.
        rate: of the sound, in Hz.
        sound_start: seconds of the first sample.
        visual: whether there are pictures.
        audio: whether there is sound.
        rotation: degrees clockwise by which a player is to turn the pictures; mp4 only.
        codecs: of pictures and sound.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(seconds * fps)) / fps if times is None else np.asarray(times)
    frames = shapes(times, *size) if frames is None else frames
    sound = np.atleast_2d(tone(seconds - sound_start, rate) if sound is None else sound)
    with av.open(str(path), "w") as container:
        if visual:
            pictures = container.add_stream(codecs[0], rate=Fraction(fps).limit_denominator(1001))
            pictures.height, pictures.width = frames.shape[1:3]
            pictures.pix_fmt = "yuv420p"
            pictures.options = {"crf": "10", "preset": "ultrafast"}
            pictures.codec_context.time_base = Fraction(1, 12800)
        if audio:
            track = container.add_stream(codecs[1], rate=rate)
            track.layout = "mono" if len(sound) == 1 else "stereo"
        if visual:
            for time, array in zip(times, frames, strict=True):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(array), "rgb24")
                frame.pts, frame.time_base = round(time * 12800), Fraction(1, 12800)
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
        if audio:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound), "fltp", track.layout.name)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(sound_start * rate)
            resampler = av.AudioResampler(track.format, track.layout, rate, track.codec_context.frame_size or 1024)
            for part in (*resampler.resample(frame), *resampler.resample(None)):
                container.mux(track.encode(part))
            container.mux(track.encode(None))
    if rotation:
        _rotate(path, rotation)
    return path


def truncate(path: Path, fraction: float) -> Path:
    """Cut a file off."""
    data = path.read_bytes()
    path.write_bytes(data[: round(len(data) * fraction)])
    return path


def _rotate(path: Path, degrees: int) -> None:
    """Write the display matrix of an mp4's first picture track: 36 bytes of its track header ('tkhd', version 0)."""
    cosine, sine = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[degrees]
    matrix = np.array([cosine, sine, 0, -sine, cosine, 0, 0, 0, 0], np.int32) << 16
    matrix[8] = 1 << 30
    data = bytearray(path.read_bytes())
    start = data.index(b"tkhd") + 4 + 40
    data[start : start + 36] = matrix.astype(">i4").tobytes()
    path.write_bytes(data)
