"""How the rows and columns of a picture map to a log-mel spectrogram, and a waveform to either.

Shapes used here: b batch, n samples of sound, f mel bins (0 = lowest), t frames,
h w picture rows and columns (row 0 = highest band, as people read spectrograms).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class SpectrogramFormat:
    """A log-mel spectrogram as a gray picture: one column a hop, one row a mel bin.

    Experts that speak of sound and vocoders each have one; they fit together when the two are equal.

    Attributes:
        name: what messages call it.
        sample_rate: in Hz.
        n_fft: length of the Fourier transform, in samples.
        win_length: length of the Hann window, in samples.
        hop_length: samples for each column.
        n_mels: mel bins, which is picture rows.
        f_min, f_max: range of the filterbank, in Hz.
        floor, ceiling: mel magnitudes that are drawn as 0 (black) and 1 (white).
    """

    name: str
    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    n_mels: int
    f_min: float
    f_max: float
    floor: float
    ceiling: float

    def to_log_mel(self, picture: Tensor) -> Tensor:
        """(b, 1, h, w) gray in [0, 1] -> (b, f, t) natural log of mel magnitudes, float32.

        Half precision would cost up to 0.013 here, so the result is always float32.
        """
        gray = rearrange(picture.float(), "b 1 h w -> b h w").flip(1)
        return gray * self._log_range + math.log(self.floor)

    def to_picture(self, log_mel: Tensor) -> Tensor:
        """(b, f, t) natural log of mel magnitudes -> (b, 1, h, w) gray; the inverse of `to_log_mel`.

        Values outside the drawable range are not cut: the caller clamps where it draws.
        """
        gray = (log_mel.float() - math.log(self.floor)) / self._log_range
        return rearrange(gray.flip(1), "b h w -> b 1 h w")

    def log_mel(self, waveform: Tensor) -> Tensor:
        """(b, n) sound in [-1, 1] -> (b, f, n // hop_length), as Auffusion computed its training data.

        Reflect padding of (n_fft - hop) / 2 and no centring, so column 0 looks at the first samples.
        """
        pad = (self.n_fft - self.hop_length) // 2
        padded = functional.pad(waveform.float().unsqueeze(1), (pad, pad), mode="reflect").squeeze(1)
        spectrum = torch.stft(
            padded,
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            win_length=self.win_length,
            window=self.window(waveform.device),
            center=False,
            return_complex=True,
        )
        magnitude = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-9)
        mel = torch.einsum("k f, b k t -> b f t", self.filterbank().to(magnitude), magnitude)
        return mel.clamp(min=self.floor).log()

    def window(self, device: torch.device) -> Tensor:
        """The Hann window, (win_length,), float32 whatever torch's default dtype is."""
        return torch.hann_window(self.win_length, dtype=torch.float32, device=device)

    def filterbank(self) -> Tensor:
        """The mel filterbank, (n_fft / 2 + 1, f): Slaney's scale and area normalisation, as librosa's."""
        return _filterbank(self)

    @property
    def _log_range(self) -> float:
        return math.log(self.ceiling) - math.log(self.floor)


@lru_cache
def _filterbank(form: SpectrogramFormat) -> Tensor:
    # A plain float32 tensor on the CPU whatever mode and defaults Lightning has set: it is kept for everybody.
    with torch.inference_mode(False), torch.device("cpu"):
        top, bottom = _mel(form.f_max), _mel(form.f_min)
        edges = _hertz(torch.linspace(bottom, top, form.n_mels + 2, dtype=torch.float64))
        bins = torch.linspace(0, form.sample_rate / 2, form.n_fft // 2 + 1, dtype=torch.float64)
        rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
        triangles = torch.minimum(rising, falling).clamp(min=0)
        return (triangles * 2 / (edges[2:] - edges[:-2])).float()  # the area under each is 1


# Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, 15 mel; then 27 mel for each factor of 6.4.
_MEL_PER_HERTZ = 3 / 200
_KNEE_HERTZ, _KNEE_MEL = 1000.0, 15.0
_LOG_STEP = math.log(6.4) / 27


def _mel(hertz: float) -> float:
    if hertz < _KNEE_HERTZ:
        return hertz * _MEL_PER_HERTZ
    return _KNEE_MEL + math.log(hertz / _KNEE_HERTZ) / _LOG_STEP


def _hertz(mel: Tensor) -> Tensor:
    above = _KNEE_HERTZ * torch.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return torch.where(mel < _KNEE_MEL, mel / _MEL_PER_HERTZ, above)


AUFFUSION = SpectrogramFormat(
    name="Auffusion",
    sample_rate=16_000,
    n_fft=2048,
    win_length=1024,
    hop_length=160,
    n_mels=256,
    f_min=0.0,
    f_max=8_000.0,
    floor=1e-5,
    ceiling=200.0,
)
"""Auffusion's format (arXiv 2401.01044): 16 kHz, 256 bands up to 8 kHz, 100 columns a second."""
