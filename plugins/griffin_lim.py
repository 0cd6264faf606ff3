"""Griffin-Lim: a spectrogram played without a model, by looking for the phase that is missing."""

from __future__ import annotations

from math import ceil

import torch
from einops import rearrange
from torch import Tensor

from its.interfaces import Vocoder
from its.registry import register
from its.spectrogram import AUFFUSION, SpectrogramFormat

SMALLEST_SINGULAR_VALUE = 1e-3
"""Directions in which a filterbank is weaker than this, against its strongest, count as lost. Auffusion's has none."""


@register
class GriffinLim(Vocoder):
    """Fast Griffin-Lim (Perraudin et al., WASPAA 2013): any format, no weights, the same sound each time.

    The phase starts from zero, not from chance. A sample whose peak would be above 1 is scaled down to 1, the
    others keep their level. A clip of 10 s takes about 25 ms for each iteration on one core.

    Args:
        format: the spectrograms that are played.
        iterations: how often the phase is improved. 32 leave a picture of 1024 columns 0.153 from its own sound
            (relative, in mel magnitudes), 64 leave 0.148 and 128 leave 0.145; a clean sound gains more.
        momentum: acceleration, in [0, 1); 0 is the original algorithm (Griffin and Lim, 1984).

    Raises:
        ValueError: an argument is out of range.
    """

    def __init__(self, *, format: SpectrogramFormat = AUFFUSION, iterations: int = 32, momentum: float = 0.99) -> None:
        super().__init__()
        if iterations < 1:
            raise ValueError(f"iterations (={iterations}) must be at least 1")
        if not 0 <= momentum < 1:
            raise ValueError(f"momentum (={momentum}) must lie in [0, 1)")
        self._format = format
        self.iterations = iterations
        self.momentum = momentum
        self.inverse_mel: Tensor | None
        self.register_buffer("inverse_mel", None, persistent=False)

    @property
    def format(self) -> SpectrogramFormat:
        """What was given to the constructor."""
        return self._format

    def load(self) -> None:
        """Compute the inverse of the filterbank, in double precision."""
        if self.inverse_mel is None:
            forward = rearrange(self.format.filterbank(), "k f -> f k").double()
            inverse = torch.linalg.pinv(forward, rtol=SMALLEST_SINGULAR_VALUE).float()
            self.inverse_mel = inverse.to(torch.get_default_device())

    def forward(self, log_mel: Tensor) -> Tensor:
        """(b, f, t) natural log of mel magnitudes -> (b, t * hop_length) sound, float32 in [-1, 1].

        Aligned with `SpectrogramFormat.log_mel`: that of the sound has its events in the columns that they had.

        Raises:
            ValueError: the number of bands is not the format's.
        """
        if log_mel.shape[1] != self.format.n_mels:
            raise ValueError(f"got a spectrogram of {log_mel.shape[1]} bands, expected {self.format.n_mels}")
        # One at a time: the result can't depend on the batch, and what a core works on stays in reach of its cache.
        sound = torch.stack([self._play(one) for one in log_mel.float()])
        return sound / sound.abs().amax(1, keepdim=True).clamp(min=1)

    def _play(self, log_mel: Tensor) -> Tensor:
        """(f, t) -> (n,), at whatever level."""
        from torchaudio.functional import griffinlim

        form = self.format
        if self.inverse_mel is None:
            raise RuntimeError("GriffinLim was not loaded: call load() before playing")
        magnitude = torch.einsum("k f, f t -> t k", self.inverse_mel, log_mel.exp()).clamp(min=0)
        # The first and last column go on for half a transform, so that there is something to reflect at the ends.
        margin = ceil(form.n_fft / 2 / form.hop_length)
        columns = torch.arange(-margin, len(magnitude) + margin, device=magnitude.device)
        magnitude = magnitude[columns.clamp(0, len(magnitude) - 1)]
        sound: Tensor = griffinlim(
            rearrange(magnitude, "t k -> 1 k t"),  # a view: rows of frequencies lie as the transforms want them
            window=form.window(magnitude.device),
            n_fft=form.n_fft,
            hop_length=form.hop_length,
            win_length=form.win_length,
            power=1.0,
            n_iter=self.iterations,
            momentum=self.momentum,
            length=None,
            rand_init=False,
        )
        # Column j is centred on sample j * hop here, but half a hop later in `log_mel`.
        later = form.n_fft // 2 - (form.n_fft - form.hop_length) // 2
        start = margin * form.hop_length - later
        return sound[0, start : start + log_mel.shape[1] * form.hop_length]
