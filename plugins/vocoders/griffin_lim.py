"""Griffin-Lim, a vocoder without weights that reconstructs the phase iteratively."""

from __future__ import annotations

from math import ceil
from typing import Any

import torch
from einops import pack, unpack
from torch import Tensor

from its.audio.spectrogram import AUFFUSION, SpectrogramFormat
from its.interfaces import Vocoder
from its.registry import register
from its_plugins.vocoders.phase_accumulation import accumulate_phase

SMALLEST_SINGULAR_VALUE = 1e-3
"""Singular values of the filterbank below this fraction of the largest are set to 0 in the pseudoinverse. The built-in
formats have none: Auffusion's values range from 1 to 4.8, Riffusion's from 1 to 6.6."""

MAX_OVERLAP = 8
"""Maximum hops per Fourier transform. Longer zero-padded transforms take time without improving the sound."""


@register
class GriffinLim(Vocoder):
    """Fast Griffin-Lim (Perraudin et al., WASPAA 2013): any format, no weights, deterministic.

    The initial phase is accumulated from frame to frame instead of random. A sample with a peak above 1 is scaled to a
    peak of 1, with one factor for all channels; other samples keep their level.

    Args:
        format: format of the spectrograms; null for the experts' format, or Auffusion's if they have none.
        iterations: number of phase updates. docs/formats.md compares their quality and cost.
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
        self._fixed_format = format
        self._format = format or AUFFUSION
        self.iterations = iterations
        self.momentum = momentum
        self.inverse_mel: Tensor | None
        self.register_buffer("inverse_mel", None, persistent=False)

    @property
    def format(self) -> SpectrogramFormat:
        return self._format

    def set_format(self, format: SpectrogramFormat) -> None:
        """Set the format, unless it was an argument of the constructor."""
        if self._fixed_format is None:
            self._format, self.inverse_mel = format, None

    def load(self) -> None:
        """Compute the inverse of the filterbank, in double precision."""
        if self.inverse_mel is None:
            bank = self.format.filterbank().double()
            gram = bank.mT @ bank  # much smaller than the bank; its singular values are the squares of the bank's
            inverse = bank @ torch.linalg.pinv(gram, rtol=SMALLEST_SINGULAR_VALUE**2, hermitian=True)
            self.inverse_mel = inverse.float()[:: self._stride].to(torch.get_default_device())

    def forward(self, log_mel: Tensor) -> Tensor:
        """Vocode log-mel spectrograms, aligned in time with `SpectrogramFormat.log_mel`."""
        if log_mel.shape[-2] != self.format.n_mels:
            raise ValueError(f"got a spectrogram of {log_mel.shape[-2]} mel bands, expected {self.format.n_mels}")
        flat, batch = pack([log_mel.float()], "* f t")
        # One at a time, so that the result does not depend on the batch, and the data stays in a core's cache.
        (sound,) = unpack(torch.stack([self._vocode(x) for x in flat]), batch, "* n")
        peak = sound.abs().amax(tuple(range(1, sound.ndim)), keepdim=True)
        return sound / peak.clamp(min=1)

    @property
    def _stride(self) -> int:
        """Stride of the Fourier bins in use. If the window is zero-padded, the others are interpolations."""
        form = self.format
        sufficient = max(form.win_length, MAX_OVERLAP * form.hop_length)
        return max((s for s in range(1, form.n_fft // sufficient + 1) if form.n_fft % (2 * s) == 0), default=1)

    def _vocode(self, log_mel: Tensor) -> Tensor:
        """Vocode (f, t) to sound (n,), without limiting the peak."""
        if self.inverse_mel is None:
            raise RuntimeError("GriffinLim is not loaded: call load() first")
        form, n_fft = self.format, self.format.n_fft // self._stride
        magnitude = torch.einsum("k f, f t -> t k", self.inverse_mel, log_mel.exp()).clamp(min=0)
        # Repeat the first and last column for half a transform, since `stft` pads the ends by reflection.
        margin = ceil(n_fft / 2 / form.hop_length)
        columns = torch.arange(-margin, len(magnitude) + margin, device=magnitude.device)
        sound = self._reconstruct(magnitude[columns.clamp(0, len(magnitude) - 1)], n_fft)
        # Column j is centred on sample j * hop here, but half a hop later in `log_mel`.
        offset = form.n_fft // 2 - (form.n_fft - form.hop_length) // 2
        start = margin * form.hop_length - offset
        return sound[start : start + log_mel.shape[1] * form.hop_length]

    def _reconstruct(self, magnitude: Tensor, n_fft: int) -> Tensor:
        """Return sound (n,) with approximately the magnitudes (t, k), from the middle of column 0 on."""
        form = self.format
        sizes: dict[str, Any] = {"n_fft": n_fft, "win_length": form.win_length, "hop_length": form.hop_length}
        window = form.window(magnitude.device)
        # On the CPU: it needs float64, which MPS lacks, and its loop over frames would be launch-bound on a GPU.
        phase = accumulate_phase(magnitude.cpu(), **sizes)
        angles = torch.polar(torch.ones_like(phase), phase).to(torch.complex64).to(magnitude.device)
        target, angles = magnitude.mT, angles.mT  # in the memory layout that the transforms need
        previous = torch.zeros_like(angles)
        for _ in range(self.iterations):
            sound = torch.istft(target * angles, **sizes, window=window)
            spectrum = torch.stft(sound, **sizes, window=window, return_complex=True)
            accelerated = spectrum - self.momentum / (1 + self.momentum) * previous  # as in torchaudio
            angles, previous = accelerated / accelerated.abs().clamp(min=1e-16), spectrum
        return torch.istft(target * angles, **sizes, window=window)
