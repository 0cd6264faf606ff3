"""CLAP score (Wu et al., arXiv 2211.06687) of the sound, as in the paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from torch import Tensor
from torch.nn.functional import normalize

from its.audio.waveform import resample
from its.interfaces import ScorerInput
from its.registry import register
from its.weights import Pin, pin
from its_plugins.scorers.dual_encoder import DualEncoder

# A conversion to safetensors; the repository's default branch has pickled tensors.
pin({"laion/clap-htsat-unfused": Pin(revision="79b58ed25fc00386262a2bea4b19fd21dc4310a0")})


@register
class CLAPScorer(DualEncoder):
    """CLAP score: cosine similarity of sound and prompt, at least 0.

    The sound is resampled to the model's rate (48 kHz), scaled to a peak of 1, and cut after 10 s. The model's own
    preprocessing would take 10 s at a random offset.

    Args:
        weights: a folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub; null for the pinned commit.
        batch_size: sounds per forward pass of the network.
    """

    modality: Literal["audio"] = "audio"
    model_type = "clap"
    reserved_positions = 2  # RoBERTa's positions start after that of its padding token

    def __init__(
        self, *, weights: str = "laion/clap-htsat-unfused", revision: str | None = None, batch_size: int = 16
    ) -> None:
        super().__init__(weights=weights, revision=revision, batch_size=batch_size)

    def model_classes(self) -> tuple[Any, Any]:
        from transformers import ClapFeatureExtractor, ClapModel

        return ClapModel, ClapFeatureExtractor

    def inputs(self, sample: ScorerInput) -> list[Tensor]:
        sound = normalize_sound(sample.waveform, sample.sample_rate, self._preprocessor.sampling_rate)
        return [sound[: self._preprocessor.nb_max_samples]]

    def embed(self, inputs: Sequence[Tensor]) -> Tensor:
        sounds, rate = [sound.numpy() for sound in inputs], self._preprocessor.sampling_rate
        features = self._preprocessor(sounds, sampling_rate=rate, return_tensors="pt")
        embedded = self.model.get_audio_features(
            input_features=features["input_features"].float().to(self.model.device),
            is_longer=features["is_longer"].to(self.model.device),
        ).pooler_output
        return normalize(embedded, dim=-1)

    @classmethod
    def example(cls, folder: Path) -> Self:
        from its_plugins.random_weights import dual_encoders

        return cls(weights=str(dual_encoders.clap(folder)), batch_size=2)


def normalize_sound(waveform: Tensor, sample_rate: int, new_rate: int) -> Tensor:
    """Resample (n,) to another rate and scale its peak to 1. Silence stays silence."""
    resampled = resample(waveform, sample_rate, new_rate)
    peak = resampled.abs().max()
    return resampled / peak if peak > 0 else resampled
