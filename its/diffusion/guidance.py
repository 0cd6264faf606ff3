"""Classifier-free guidance with a prompt and a scale for each sample of a batch."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence

import torch
from einops import rearrange
from torch import Tensor

from its.interfaces import NoiseExpert


class GuidedExpert:
    """Guided noise estimator: an expert with the text embeddings and guidance scales of one batch (Eq. 2 to 4).

    Unconditional estimates are computed only for samples with a scale other than 1.
    """

    def __init__(
        self, expert: NoiseExpert, *, text: Tensor, null_text: Tensor, scales: Sequence[float], rescale: float = 0.0
    ) -> None:
        """Args:
        expert: computes the estimates.
        text: embeddings of the prompts, (b, ...).
        null_text: embeddings of the negative or empty prompts, (b, ...), on the same device.
        scales: guidance scale gamma of each sample.
        rescale: share phi of the guided estimate that is rescaled to the standard deviation of the conditional one
            (Lin et al., arXiv 2305.08891, Section 3.4), in [0, 1]. As there, v is rescaled, which is converted from
            the noise by z_t; smaller noise would leave a part of it in the picture.
        """
        guided = [row for row, scale in enumerate(scales) if scale != 1]
        self.expert = expert
        self.guided = tuple(guided)
        self.rows = torch.tensor(guided, dtype=torch.int64, device=text.device)
        self.text = torch.cat([null_text[self.rows], text]) if guided else text
        gamma = torch.tensor([scales[row] for row in guided], dtype=torch.float32, device=text.device)
        self.scale = rearrange(gamma, "b -> b 1 1 1")
        self.rescale = rescale
        self.sigmas = (1 - expert.alphas()).sqrt().to(text.device) if rescale and guided else None

    def __call__(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """Return eps(z; null, t) + gamma (eps(z; y, t) - eps(z; null, t)) for latents (b, c, h, w), timestep (b,)."""
        all_guided = len(self.guided) == len(latents)
        z, t = (latents, timestep) if all_guided else (latents[self.rows], timestep[self.rows])
        noise = self.expert.predict_noise(torch.cat([z, latents]), torch.cat([t, timestep]), self.text)
        eps_null, eps_text = noise[: len(z)], noise[len(z) :]
        conditional = eps_text if all_guided else eps_text[self.rows]
        guided = eps_null + self.scale.to(noise.dtype) * (conditional - eps_null)
        if self.sigmas is not None:
            v_0 = rearrange(self.sigmas[t].to(noise.dtype), "b -> b 1 1 1") * z  # eps for v = 0
            ratio = (conditional - v_0).std((1, 2, 3), keepdim=True) / (guided - v_0).std((1, 2, 3), keepdim=True)
            guided = v_0 + (guided - v_0) * (self.rescale * ratio + 1 - self.rescale)
        return guided if all_guided else eps_text.index_copy(0, self.rows, guided)

    def unguided(self) -> GuidedExpert:
        """Return an estimator without guidance for the same batch."""
        text = self.text[len(self.guided) :]
        return GuidedExpert(self.expert, text=text, null_text=text, scales=[1.0] * len(text))

    @property
    def signature(self) -> Hashable:
        """Key that is equal for estimators between which `copy_` can copy."""
        return id(self.expert), self.text.shape, self.text.dtype, self.guided, self.rescale

    def clone(self) -> GuidedExpert:
        """Return a copy with its own embeddings and scales, and the same expert."""
        other = copy.copy(self)
        other.text, other.scale, other.rows = self.text.clone(), self.scale.clone(), self.rows.clone()
        return other

    def copy_(self, other: GuidedExpert) -> None:
        """Copy embeddings and scales from another estimator, in place."""
        self.text.copy_(other.text)
        self.scale.copy_(other.scale)


class TextCache:
    """Least-recently-used cache of an expert's text embeddings.

    Args:
        expert: encodes the prompts.
        max_bytes: maximum size. Stable Diffusion's keys and values take 7 MiB per prompt in float32.
    """

    def __init__(self, expert: NoiseExpert, *, max_bytes: int = 2**28) -> None:
        self.expert = expert
        self.max_bytes = max_bytes
        self._cache: dict[str, Tensor] = {}

    def clear(self) -> None:
        """Remove all embeddings."""
        self._cache.clear()

    def __call__(self, prompts: Sequence[str], device: torch.device) -> Tensor:
        """Return the embeddings of b prompts, (b, ...), on a device."""
        unique = dict.fromkeys(prompts)
        if new := [prompt for prompt in unique if prompt not in self._cache]:
            # Clone, since a slice would keep the memory of the full batch.
            encoded = (text.clone() for text in self.expert.encode_text(new))
            self._cache.update(zip(new, encoded, strict=True))
        for prompt in unique:
            self._cache[prompt] = self._cache.pop(prompt)  # most recently used last
        texts = torch.stack([self._cache[prompt] for prompt in prompts]).to(device)
        total = sum(text.nbytes for text in self._cache.values())
        while total > self.max_bytes:
            total -= self._cache.pop(next(iter(self._cache))).nbytes
        return texts
