"""CLAP score (Wu et al., arXiv 2211.06687) of the sound, as the paper has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import torch
from torch import Tensor
from torch.nn.functional import normalize

from its.audio.waveform import resample
from its.interfaces import ScorerInput
from its.registry import register
from its.weights import Pin, pin
from its_plugins.scorers.dual_encoder import DualEncoder

# The repository's conversion to safetensors; its default branch has pickled tensors.
pin({"laion/clap-htsat-unfused": Pin(revision="79b58ed25fc00386262a2bea4b19fd21dc4310a0")})


@register
class CLAPScorer(DualEncoder):
    """CLAP: cosine of sound and prompt, not below 0.

    The sound is resampled to the model's rate (48 kHz) and its peak brought to 1. Of a sound of more than 10 s the
    model's own preprocessing takes 10 s at random; here it gets the first ones.

    Args:
        weights: a folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; null for the pinned one.
        batch_size: sounds that the network gets at once.
    """

    model_type = "clap"

    def __init__(
        self, *, weights: str = "laion/clap-htsat-unfused", revision: str | None = None, batch_size: int = 16
    ) -> None:
        super().__init__(weights=weights, revision=revision, batch_size=batch_size)

    @property
    def modality(self) -> Literal["audio"]:
        """The sound."""
        return "audio"

    @property
    def max_tokens(self) -> int:
        """RoBERTa counts positions from its padding on, so two are lost."""
        limit: int = self.model.config.text_config.max_position_embeddings - 2
        return limit

    def libraries(self) -> tuple[Any, Any]:
        from transformers import ClapFeatureExtractor, ClapModel

        return ClapModel, ClapFeatureExtractor

    def score(self, samples: Sequence[ScorerInput]) -> list[float | None]:
        """cos(sound, prompt), floored at 0."""
        scores: list[float | None] = []
        for first in range(0, len(samples), self.batch_size):
            part = samples[first : first + self.batch_size]
            sounds = self._embed(part)
            texts = torch.stack([self.embed_text(sample.prompt) for sample in part])
            scores += [max(float(value), 0.0) for value in (sounds * texts).sum(-1)]
        return scores

    def _embed(self, samples: Sequence[ScorerInput]) -> Tensor:
        """(b, c), normalised."""
        rate, longest = self._preprocessor.sampling_rate, self._preprocessor.nb_max_samples
        sounds = [as_heard(sample.waveform, sample.sample_rate, rate)[:longest].numpy() for sample in samples]
        inputs = self._preprocessor(sounds, sampling_rate=rate, return_tensors="pt")
        features = self.model.get_audio_features(
            input_features=inputs["input_features"].float().to(self.model.device),
            is_longer=inputs["is_longer"].to(self.model.device),
        ).pooler_output
        return normalize(features, dim=-1)

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins.random_weights import dual_encoders as random_towers

        return cls(weights=str(random_towers.clap(folder)), batch_size=2)


def as_heard(waveform: Tensor, sample_rate: int, rate: int) -> Tensor:
    """(n,) -> (m,) at the rate of the model, with its peak at 1; silence stays silence."""
    resampled = resample(waveform, sample_rate, rate)
    peak = resampled.abs().max()
    return resampled / peak if peak > 0 else resampled
