"""How a sound becomes a picture, and a picture the magnitudes that a vocoder plays.

Shapes used here: b batch, n samples of sound, f mel bins (0 = lowest), t frames, k Fourier bins,
h w picture rows and columns (row 0 = highest band, as people read spectrograms).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from einops import pack, rearrange, unpack
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class SpectrogramFormat:
    """A mel spectrogram as a picture: one column a hop, one row a mel bin.

    It has two halves: how a waveform becomes mel magnitudes, and the curve by which magnitudes become gray. What
    passes between experts and vocoders is the natural log of the magnitudes, whatever the curve. Experts that speak
    of sound and vocoders each have a format; they fit together when the two are equal.

    The defaults are Auffusion's.

    Attributes:
        name: what messages call it.
        sample_rate: in Hz.
        n_fft: length of the Fourier transform, in samples.
        win_length: length of the Hann window, in samples.
        hop_length: samples for each column.
        epsilon: what is added to the power spectrum under the root.
        n_mels: mel bins, which is picture rows.
        f_min, f_max: range of the filterbank, in Hz.
        mel_scale: Slaney's, linear up to 1 kHz, or that of HTK, 2595 log10(1 + f / 700).
        mel_norm: `slaney` gives each triangle of the filterbank an area of 1, None a height of 1.
        power: gray goes with this power of the magnitude; 0 stands for its logarithm.
        floor, ceiling: mel magnitudes at the two ends of gray.
        silence: the gray of the floor, 0 (black) or 1 (white). The ceiling is the other.
        channels: 1, mono, heard in the gray of the picture, or 2, stereo: left is its green, right its blue.
    """

    name: str = "Auffusion"
    sample_rate: int = 16_000
    n_fft: int = 2048
    win_length: int = 1024
    hop_length: int = 160
    epsilon: float = 1e-9
    n_mels: int = 256
    f_min: float = 0.0
    f_max: float = 8_000.0
    mel_scale: Literal["slaney", "htk"] = "slaney"
    mel_norm: Literal["slaney"] | None = "slaney"
    power: float = 0.0
    floor: float = 1e-5
    ceiling: float = 200.0
    silence: Literal[0, 1] = 0
    channels: Literal[1, 2] = 1

    def __post_init__(self) -> None:
        """Raises:
        ValueError: the values make no format.
        """
        if not 0 < self.floor < self.ceiling:
            raise ValueError(f"floor (={self.floor}) must be above 0 and below ceiling (={self.ceiling})")
        if self.power < 0:
            raise ValueError(f"power (={self.power}) must be at least 0")
        if not self.hop_length <= self.win_length <= self.n_fft:
            sizes = f"hop_length (={self.hop_length}), win_length (={self.win_length}), n_fft (={self.n_fft})"
            raise ValueError(f"{sizes} must not fall")

    def sounding(self, picture: Tensor) -> Tensor:
        """(b, 3, h, w) in [0, 1] -> the part of it that is heard: (b, 1, h, w), the mean over channels.

        In stereo it is the whole picture, (b, 3, h, w).
        """
        return picture.mean(1, keepdim=True) if self.channels == 1 else picture

    def to_log_mel(self, picture: Tensor) -> Tensor:
        """(b, 1, h, w) gray in [0, 1] -> (b, f, t) natural log of mel magnitudes, float32.

        In stereo (b, 3, h, w) -> (b, 2, f, t). Half precision would cost up to 0.013 here, so the result is always
        float32.

        Raises:
            ValueError: a picture of other channels.
        """
        if picture.shape[1] != (expected := 1 if self.channels == 1 else 3):
            raise ValueError(f"{self.name} is heard in {expected} channels of a picture, got {picture.shape[1]}")
        gray = picture.float().flip(2)[:, -self.channels :]  # in stereo: green, blue
        level = (gray - self.silence) * self._direction
        low, high = self._ends
        log_mel = self._straightened(low + (high - low) * level)
        return rearrange(log_mel, "b 1 f t -> b f t") if self.channels == 1 else log_mel

    def to_picture(self, log_mel: Tensor) -> Tensor:
        """(b, f, t) natural log of mel magnitudes -> (b, 1, h, w) gray; the inverse of `to_log_mel`.

        In stereo (b, 2, f, t) -> (b, 3, h, w), whose red, which is not heard, is the mean of green and blue. Values
        outside the drawable range are not cut: the caller clamps where it draws.
        """
        low, high = self._ends
        level = (self._curved(log_mel.float()) - low) / (high - low)
        gray = (self.silence + self._direction * level).flip(-2)
        if self.channels == 1:
            return rearrange(gray, "b h w -> b 1 h w")
        return torch.cat([gray.mean(1, keepdim=True), gray], 1)

    def log_mel(self, waveform: Tensor) -> Tensor:
        """(b, n) sound in [-1, 1] -> (b, f, n // hop_length), as Auffusion computed its training data.

        In stereo (b, 2, n) -> (b, 2, f, n // hop_length). Reflect padding of (n_fft - hop) / 2 and no centring, so
        column j looks at the samples around (j + 1/2) hops.
        """
        flat, batch = pack([waveform.float()], "* n")
        left = (self.n_fft - self.hop_length) // 2
        right = self.n_fft - self.hop_length - left
        spectrum = torch.stft(
            functional.pad(flat.unsqueeze(1), (left, right), mode="reflect").squeeze(1),
            n_fft=self.n_fft,
            hop_length=self.hop_length,
            win_length=self.win_length,
            window=self.window(waveform.device),
            center=False,
            return_complex=True,
        )
        magnitude = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + self.epsilon)
        mel = torch.einsum("k f, b k t -> b f t", self.filterbank().to(magnitude), magnitude)
        (log_mel,) = unpack(mel.clamp(min=self.floor).log(), batch, "* f t")
        return log_mel

    def window(self, device: torch.device) -> Tensor:
        """The Hann window, (win_length,), float32 whatever torch's default dtype is."""
        return torch.hann_window(self.win_length, dtype=torch.float32, device=device)

    def filterbank(self) -> Tensor:
        """The mel filterbank, (k, f) with k = n_fft / 2 + 1, as librosa's and torchaudio's."""
        return _filterbank(self)

    def height_of(self, hertz: float) -> float:
        """Where a frequency lies in a picture: 0 at its lower edge, 1 at its upper one; beyond them outside of it.

        Band k, from 0, peaks at step k + 1 of the n_mels + 1 between `f_min` and `f_max`, and its row is k + 1/2 high.
        """
        to_mel, _ = _SCALES[self.mel_scale]
        bottom, top, here = (float(to_mel(torch.tensor(f).double())) for f in (self.f_min, self.f_max, hertz))
        return ((here - bottom) / (top - bottom) * (self.n_mels + 1) - 0.5) / self.n_mels

    @property
    def _direction(self) -> int:
        return 1 - 2 * self.silence

    @property
    def _ends(self) -> tuple[float, float]:
        """The curve at the floor and at the ceiling."""
        low, high = (math.log(m) if self.power == 0 else m**self.power for m in (self.floor, self.ceiling))
        return low, high

    def _curved(self, log_mel: Tensor) -> Tensor:
        return log_mel if self.power == 0 else (self.power * log_mel).exp()

    def _straightened(self, value: Tensor) -> Tensor:
        return value if self.power == 0 else value.clamp(min=self.floor**self.power).log() / self.power


@lru_cache
def _filterbank(form: SpectrogramFormat) -> Tensor:
    # A plain float32 tensor on the CPU whatever mode and defaults Lightning has set: it is kept for everybody.
    with torch.inference_mode(False), torch.device("cpu"):
        to_mel, to_hertz = _SCALES[form.mel_scale]
        bottom, top = (float(to_mel(torch.tensor(f, dtype=torch.float64))) for f in (form.f_min, form.f_max))
        edges = to_hertz(torch.linspace(bottom, top, form.n_mels + 2, dtype=torch.float64))
        bins = torch.linspace(0, form.sample_rate / 2, form.n_fft // 2 + 1, dtype=torch.float64)
        rising = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
        falling = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
        triangles = torch.minimum(rising, falling).clamp(min=0)
        if form.mel_norm == "slaney":
            triangles = triangles * 2 / (edges[2:] - edges[:-2])
        return triangles.float()


# Slaney's mel scale (Auditory Toolbox, 1998): linear up to 1 kHz, 15 mel; then 27 mel for each factor of 6.4.
_MEL_PER_HERTZ = 3 / 200
_KNEE_HERTZ, _KNEE_MEL = 1000.0, 15.0
_LOG_STEP = math.log(6.4) / 27


def _to_slaney(hertz: Tensor) -> Tensor:
    above = _KNEE_MEL + (hertz / _KNEE_HERTZ).log() / _LOG_STEP
    return torch.where(hertz < _KNEE_HERTZ, hertz * _MEL_PER_HERTZ, above)


def _from_slaney(mel: Tensor) -> Tensor:
    above = _KNEE_HERTZ * torch.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return torch.where(mel < _KNEE_MEL, mel / _MEL_PER_HERTZ, above)


def _to_htk(hertz: Tensor) -> Tensor:
    return 2595 * (1 + hertz / 700).log10()


def _from_htk(mel: Tensor) -> Tensor:
    return 700 * (10 ** (mel / 2595) - 1)


_SCALES = {"slaney": (_to_slaney, _from_slaney), "htk": (_to_htk, _from_htk)}

AUFFUSION = SpectrogramFormat()
"""Auffusion's format (arXiv 2401.01044): 16 kHz, 256 bands up to 8 kHz, 100 columns a second."""
