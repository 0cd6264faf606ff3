"""Conversion between waveforms, log-mel spectrograms and pictures.

Shapes used here: b batch, n audio samples, f mel bins (0 = lowest), t frames, k Fourier bins, h w rows and columns of a
picture (row 0 = highest band).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from einops import pack, rearrange, unpack
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class SpectrogramFormat:
    """Format of mel spectrograms as pictures, with a column for each hop and a row for each mel bin.

    A format defines the mel spectrogram of a waveform and the gray value of a magnitude. Vocoders take natural logs of
    magnitudes. Experts and vocoders have a format, and the two formats must be equal. The defaults are Auffusion's.

    Attributes:
        name: name in messages.
        sample_rate: sample rate in Hz.
        n_fft: length of the Fourier transform, in samples.
        win_length: length of the Hann window, in samples.
        hop_length: samples per column.
        epsilon: constant added to the power spectrum before the square root.
        n_mels: number of mel bins, and of rows.
        f_min, f_max: range of the filterbank, in Hz.
        mel_scale: `slaney`, linear up to 1 kHz, or `htk`, 2595 log10(1 + f / 700).
        mel_norm: area of the filterbank's triangles is 1 for `slaney`; their height is 1 for None.
        power: gray is linear in this power of the magnitude; 0 for its logarithm.
        floor, ceiling: magnitudes of the darkest and the lightest gray, or vice versa.
        silence: gray value of the floor, 0 (black) or 1 (white).
        channels: 1 for mono, encoded in gray; 2 for stereo, with left encoded in green and right in blue.
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
        """Raises ValueError: a value is out of range."""
        if not 0 < self.floor < self.ceiling:
            raise ValueError(f"floor (={self.floor}) must be above 0 and below ceiling (={self.ceiling})")
        if self.power < 0:
            raise ValueError(f"power (={self.power}) must be at least 0")
        if not self.hop_length <= self.win_length <= self.n_fft:
            sizes = f"hop_length (={self.hop_length}), win_length (={self.win_length}), n_fft (={self.n_fft})"
            raise ValueError(f"{sizes} must be in ascending order")

    def select_channels(self, picture: Tensor) -> Tensor:
        """Return the spectrogram in a picture (b, 3, h, w): the channel mean (b, 1, h, w), or the picture in stereo."""
        return picture.mean(1, keepdim=True) if self.channels == 1 else picture

    def to_log_mel(self, picture: Tensor) -> Tensor:
        """Convert pictures (b, 1, h, w) in [0, 1] to natural logs of mel magnitudes (b, f, t), float32.

        In stereo, the shapes are (b, 3, h, w) and (b, 2, f, t). Half precision would cause errors of up to 0.013.

        Raises:
            ValueError: the picture has another number of channels.
        """
        if picture.shape[1] != (expected := 1 if self.channels == 1 else 3):
            raise ValueError(f"{self.name}: expected pictures with {expected} channels, got {picture.shape[1]}")
        gray = picture.float().flip(2)[:, -self.channels :]  # in stereo: green, blue
        low, high = self._range
        log_mel = low + (high - low) * (gray - self.silence) * self._sign
        if self.power != 0:
            log_mel = log_mel.clamp(min=low).log() / self.power
        return rearrange(log_mel, "b 1 f t -> b f t") if self.channels == 1 else log_mel

    def to_picture(self, log_mel: Tensor) -> Tensor:
        """Convert natural logs of mel magnitudes (b, f, t) to pictures (b, 1, h, w): the inverse of `to_log_mel`.

        In stereo, the shapes are (b, 2, f, t) and (b, 3, h, w); red is the mean of green and blue. Values are not
        clamped.
        """
        low, high = self._range
        value = log_mel.float() if self.power == 0 else (self.power * log_mel.float()).exp()
        gray = (self.silence + self._sign * (value - low) / (high - low)).flip(-2)
        if self.channels == 1:
            return rearrange(gray, "b h w -> b 1 h w")
        return torch.cat([gray.mean(1, keepdim=True), gray], 1)

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Compute natural logs of mel magnitudes (b, f, n // hop_length) of sound (b, n) in [-1, 1].

        In stereo, the shapes are (b, 2, f, n // hop_length) and (b, 2, n). As in Auffusion's training data, the sound
        is padded by reflection, by (n_fft - hop_length) / 2, so that column j is centred on (j + 1/2) hops.
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
        """Return the Hann window, (win_length,) float32."""
        return torch.hann_window(self.win_length, dtype=torch.float32, device=device)

    def filterbank(self) -> Tensor:
        """Return the mel filterbank (k, f), k = n_fft / 2 + 1, as in librosa and torchaudio. Float32 on the CPU."""
        return _filterbank(self)

    def frequency_height(self, hertz: float) -> float:
        """Return the height of a frequency in a picture: 0 at the lower edge, 1 at the upper edge.

        Band k of n_mels peaks at (k + 1) / (n_mels + 1) of the way from `f_min` to `f_max`, in the middle of its row.
        """
        to_mel, _ = _SCALES[self.mel_scale]
        bottom, top, mel = (float(to_mel(torch.tensor(f).double())) for f in (self.f_min, self.f_max, hertz))
        return ((mel - bottom) / (top - bottom) * (self.n_mels + 1) - 0.5) / self.n_mels

    @property
    def _sign(self) -> int:
        return 1 - 2 * self.silence

    @property
    def _range(self) -> tuple[float, float]:
        """Logarithm or power of floor and ceiling."""
        low, high = (math.log(m) if self.power == 0 else m**self.power for m in (self.floor, self.ceiling))
        return low, high


@lru_cache
def _filterbank(form: SpectrogramFormat) -> Tensor:
    # Cached, so independent of inference mode, default dtype and default device, which Lightning may have changed.
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


_LOG_STEP = math.log(6.4) / 27

_SCALES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    # Slaney's scale (Auditory Toolbox, 1998): linear up to 1 kHz = 15 mel, then 27 mel for each factor of 6.4.
    "slaney": (
        lambda hertz: torch.where(hertz < 1000, hertz * (15 / 1000), 15 + (hertz / 1000).log() / _LOG_STEP),
        lambda mel: torch.where(mel < 15, mel / (15 / 1000), 1000 * (_LOG_STEP * (mel - 15)).exp()),
    ),
    "htk": (lambda hertz: 2595 * (1 + hertz / 700).log10(), lambda mel: 700 * (10 ** (mel / 2595) - 1)),
}
"""Functions from Hz to mel and from mel to Hz."""

AUFFUSION = SpectrogramFormat()
"""Auffusion's format (arXiv 2401.01044): 16 kHz, 256 bands up to 8 kHz, 100 columns per second."""
