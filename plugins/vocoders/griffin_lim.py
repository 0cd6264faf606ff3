"""Griffin-Lim: a spectrogram played without a model, by looking for the phase that is missing."""

from __future__ import annotations

from math import ceil
from typing import Any

import torch
from einops import pack, unpack
from torch import Tensor

from its.audio.spectrogram import AUFFUSION, SpectrogramFormat
from its.interfaces import Vocoder
from its.registry import register
from its_plugins.vocoders.phase_accumulation import accumulated_phase

SMALLEST_SINGULAR_VALUE = 1e-3
"""Directions in which a filterbank is weaker than this, against its strongest, count as lost. The two that ship
have none: Auffusion's reaches from 1 to 4.8, Riffusion's from 1 to 6.6."""

OVERLAP = 8
"""Hops to a Fourier transform that are enough. Longer ones, padded with zeros, cost time and add nothing."""


@register
class GriffinLim(Vocoder):
    """Fast Griffin-Lim (Perraudin et al., WASPAA 2013): any format, no weights, the same sound each time.

    The phase starts from what accumulates from frame to frame, not from chance. A sample whose peak would be above 1
    is scaled down to 1, all its channels alike; the others keep their level.

    Args:
        format: the spectrograms that are played; null: what the experts draw, or else Auffusion's.
        iterations: how often the phase is improved. See docs/formats.md for what they gain and cost.
        momentum: acceleration, in [0, 1); 0 is the original algorithm (Griffin and Lim, 1984).

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(
        self, *, format: SpectrogramFormat | None = None, iterations: int = 32, momentum: float = 0.99
    ) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"iterations (={iterations}) must be at least 1")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum (={momentum}) must lie in [0, 1)")
        self._given = format
        self._format = format or AUFFUSION
        self.iterations = iterations
        self.momentum = momentum
        self.inverse_mel: Tensor | None
        self.register_buffer("inverse_mel", None, persistent=False)

    @property
    def format(self) -> SpectrogramFormat:
        """What was given to the constructor, or else adopted."""
        return self._format

    def set_format(self, format: SpectrogramFormat) -> None:
        """Play this format, unless the constructor was given one."""
        if self._given is None:
            self._format, self.inverse_mel = format, None

    def load(self) -> None:
        """Compute the inverse of the filterbank, in double precision."""
        if self.inverse_mel is None:
            bank = self.format.filterbank().double()
            overlap = bank.mT @ bank  # small, where the bank is not; its singular values are the bank's, squared
            inverse = bank @ torch.linalg.pinv(overlap, rtol=SMALLEST_SINGULAR_VALUE**2, hermitian=True)
            self.inverse_mel = inverse.float()[:: self._stride].to(torch.get_default_device())

    def forward(self, log_mel: Tensor) -> Tensor:
        """(b, f, t) natural log of mel magnitudes -> (b, t * hop_length) sound, float32 in [-1, 1].

        In stereo (b, 2, f, t) -> (b, 2, t * hop_length). Aligned with `SpectrogramFormat.log_mel`: that of the sound
        has its events in the columns that they had.

        Raises:
            ValueError: the number of bands is not the format's.
        """
        if log_mel.shape[-2] != self.format.n_mels:
            raise ValueError(f"got a spectrogram of {log_mel.shape[-2]} bands, expected {self.format.n_mels}")
        flat, batch = pack([log_mel.float()], "* f t")
        # One at a time: the result can't depend on the batch, and what a core works on stays in reach of its cache.
        (sound,) = unpack(torch.stack([self._play(one) for one in flat]), batch, "* n")
        peak = sound.abs().amax(tuple(range(1, sound.ndim)), keepdim=True)
        return sound / peak.clamp(min=1)

    @property
    def _stride(self) -> int:
        """Of the format's Fourier bins, every how manieth is used. Those of a padded window are interpolated."""
        form = self.format
        enough = max(form.win_length, OVERLAP * form.hop_length)
        return max((s for s in range(1, form.n_fft // enough + 1) if form.n_fft % (2 * s) == 0), default=1)

    def _play(self, log_mel: Tensor) -> Tensor:
        """(f, t) -> (n,), at whatever level."""
        if self.inverse_mel is None:
            raise RuntimeError("GriffinLim was not loaded: call load() before playing")
        form, n_fft = self.format, self.format.n_fft // self._stride
        magnitude = torch.einsum("k f, f t -> t k", self.inverse_mel, log_mel.exp()).clamp(min=0)
        # The first and last column go on for half a transform, so that there is something to reflect at the ends.
        margin = ceil(n_fft / 2 / form.hop_length)
        columns = torch.arange(-margin, len(magnitude) + margin, device=magnitude.device)
        sound = self._search(magnitude[columns.clamp(0, len(magnitude) - 1)], n_fft)
        # Column j is centred on sample j * hop here, but half a hop later in `log_mel`.
        later = form.n_fft // 2 - (form.n_fft - form.hop_length) // 2
        start = margin * form.hop_length - later
        return sound[start : start + log_mel.shape[1] * form.hop_length]

    def _search(self, magnitude: Tensor, n_fft: int) -> Tensor:
        """(t, k) -> sound whose spectrum has these magnitudes, as well as can be; its samples begin at column 0."""
        sizes: dict[str, Any] = {
            "n_fft": n_fft,
            "win_length": self.format.win_length,
            "hop_length": self.format.hop_length,
        }
        window = self.format.window(magnitude.device)
        # On the CPU in float64, which MPS lacks; frame by frame, so a GPU would only wait for launches.
        phase = accumulated_phase(magnitude.cpu(), **sizes)
        angles = torch.polar(torch.ones_like(phase), phase).to(torch.complex64).to(magnitude.device)
        # Rows of frequencies lie as the transforms want them, so these are views.
        target, angles = magnitude.mT, angles.mT
        last = torch.zeros_like(angles)
        for _ in range(self.iterations):
            sound = torch.istft(target * angles, **sizes, window=window)
            found = torch.stft(sound, **sizes, window=window, return_complex=True)
            ahead = found - self.momentum / (1 + self.momentum) * last  # as torchaudio's
            angles, last = ahead / ahead.abs().clamp(min=1e-16), found
        return torch.istft(target * angles, **sizes, window=window)
