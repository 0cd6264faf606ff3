"""Classifier-free guidance for a batch whose samples may each have their own prompt and scale."""

from __future__ import annotations

import copy
from collections.abc import Hashable, Sequence

import torch
from einops import rearrange
from torch import Tensor

from its.interfaces import NoiseExpert


class GuidedExpert:
    """An expert with the texts and guidance scales of one batch: latents in, guided noise estimate out (Eq. 2 to 4).

    Samples whose scale is 1 need no unconditional estimate, and none is computed for them.
    """

    def __init__(self, expert: NoiseExpert, *, text: Tensor, null_text: Tensor, scales: Sequence[float]) -> None:
        """Args:
        expert: gives the estimates.
        text: (b, ...) of each sample's prompt.
        null_text: (b, ...) of each sample's negative prompt, or of the empty one; on the same device.
        scales: gamma of each sample.
        """
        guided = [row for row, scale in enumerate(scales) if scale != 1]
        self.expert = expert
        self.guided = tuple(guided)
        self.all_guided = len(guided) == len(scales)
        self.rows = torch.tensor(guided, dtype=torch.int64, device=text.device)
        self.text = torch.cat([null_text[self.rows], text]) if guided else text
        gamma = torch.tensor([scales[row] for row in guided], dtype=torch.float32, device=text.device)
        self.scale = rearrange(gamma, "b -> b 1 1 1")

    def __call__(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """Noisy latents (b, c, h, w), timestep (b,) -> eps(z; null, t) + gamma (eps(z; y, t) - eps(z; null, t))."""
        z, t = (latents, timestep) if self.all_guided else (latents[self.rows], timestep[self.rows])
        noise = self.expert.predict_noise(torch.cat([z, latents]), torch.cat([t, timestep]), self.text)
        eps_null, eps_text = noise[: len(z)], noise[len(z) :]
        scale = self.scale.to(noise.dtype)
        if self.all_guided:
            return eps_null + scale * (eps_text - eps_null)
        return eps_text.index_copy(0, self.rows, eps_null + scale * (eps_text[self.rows] - eps_null))

    def unguided(self) -> GuidedExpert:
        """The same expert and texts without guidance: scales of 1."""
        batch = len(self.text) - len(self.guided)
        text = self.text[len(self.guided) :]
        return GuidedExpert(self.expert, text=text, null_text=text, scales=[1.0] * batch)

    @property
    def signature(self) -> Hashable:
        """Equal if `copy_` can copy from one to the other."""
        return id(self.expert), self.text.shape, self.text.dtype, self.guided

    def clone(self) -> GuidedExpert:
        """The same expert, with texts and scales in memory of their own."""
        other = copy.copy(self)
        other.text, other.scale, other.rows = self.text.clone(), self.scale.clone(), self.rows.clone()
        return other

    def copy_(self, other: GuidedExpert) -> None:
        """Copy the texts and scales of another one, in place."""
        self.text.copy_(other.text)
        self.scale.copy_(other.scale)


class TextCache:
    """Least recently used cache of an expert's text embeddings.

    Args:
        expert: encodes the prompts.
        max_bytes: of the cached embeddings. Keys and values of Stable Diffusion take 7 MiB a prompt in float32.
    """

    def __init__(self, expert: NoiseExpert, *, max_bytes: int = 2**28) -> None:
        self.expert = expert
        self.max_bytes = max_bytes
        self._known: dict[str, Tensor] = {}

    def clear(self) -> None:
        """Remove all embeddings."""
        self._known.clear()

    def __call__(self, prompts: Sequence[str], device: torch.device) -> Tensor:
        """b prompts -> (b, ...) on the device."""
        wanted = dict.fromkeys(prompts)
        if new := [p for p in wanted if p not in self._known]:
            # Cloned: a row of the batch would keep the memory of the whole batch.
            encoded = (text.clone() for text in self.expert.encode_text(new))
            self._known.update(zip(new, encoded, strict=True))
        for prompt in wanted:
            self._known[prompt] = self._known.pop(prompt)  # the most recently used are last
        texts = torch.stack([self._known[p] for p in prompts]).to(device)
        total = sum(text.nbytes for text in self._known.values())
        for prompt in list(self._known):
            if total <= self.max_bytes:
                break
            total -= self._known.pop(prompt).nbytes
        return texts
