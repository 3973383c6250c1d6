"""Log-mel spectrograms, as VGGish and CLAP were trained on."""

from typing import Literal

import numpy as np
import torch
from torch import Tensor


def magnitudes(sound: Tensor, window: int, hop: int, fft: int, *, centred: bool) -> Tensor:
    """The magnitudes (B, frames, fft / 2 + 1) of the short-time Fourier transform of sound (B, n).

    Args:
        sound: float32.
        window: samples of the periodic Hann window, at most `fft`.
        hop: samples from one frame to the next.
        fft: points of the transform; a shorter window is followed by zeros.
        centred: whether frame 0 is centred at sample 0 (the ends are reflected) or begins there.
    """
    if centred:
        sound = torch.nn.functional.pad(sound, (fft // 2, fft // 2), mode="reflect")
    frames = sound.unfold(-1, window, hop) * torch.hann_window(window)
    return torch.fft.rfft(frames, fft).abs()


def mel_filters(
    bins: int, rate: int, count: int, low: float, high: float, *, triangles_in: Literal["mel", "hertz"]
) -> Tensor:
    """Triangular filters (bins, count) on HTK's mel scale, each with a peak of one.

    Args:
        bins: of the spectrum, from 0 to rate / 2.
        rate: samples a second.
        count: of filters, evenly spaced in mel.
        low: lower edge of the first filter, in Hz.
        high: upper edge of the last one.
        triangles_in: the scale on which the sides of a triangle are straight: "mel" in AudioSet's VGGish, "hertz" in
            torchaudio and CLAP.
    """
    frequencies = np.linspace(0, rate / 2, bins)
    first, last = _mel(np.array([low, high]))
    edges = np.linspace(first, last, count + 2)
    if triangles_in == "mel":
        frequencies = _mel(frequencies)
    else:
        edges = 700 * (10 ** (edges / 2595) - 1)
    lower, peak, upper = edges[:-2], edges[1:-1], edges[2:]
    rising = (frequencies[:, None] - lower) / (peak - lower)
    falling = (upper - frequencies[:, None]) / (upper - peak)
    filters = np.maximum(0, np.minimum(rising, falling))
    filters[0] = 0  # the constant is no sound
    return torch.from_numpy(filters).float()


def _mel(hertz: np.ndarray) -> np.ndarray:
    return 2595 * np.log10(1 + hertz / 700)
