"""CLAP score (Wu et al., arXiv 2211.06687) of the sound, as the paper has it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import torch
from torch import Tensor

from its.interfaces import Judged, Scorer
from its.registry import register
from its.weights import Located
from its_plugins.two_towers import locate_towers, read_tokenizer, read_towers

if TYPE_CHECKING:
    from transformers import ClapFeatureExtractor, ClapModel


@register
class CLAPScorer(Scorer):
    """CLAP: cosine of sound and prompt, not below 0.

    The sound is resampled to what CLAP hears (48 kHz) and its peak brought to 1. Of a sound of more than 10 s the
    model's own preprocessing hears 10 s at random; here it is given the first ones.

    Args:
        weights: a folder, or `owner/name` on the hub.
        revision: branch, tag or commit on the hub. The default is the repository's conversion to safetensors.
        batch_size: sounds that are listened to together.
    """

    model: ClapModel

    def __init__(
        self,
        *,
        weights: str = "laion/clap-htsat-unfused",
        revision: str | None = "79b58ed25fc00386262a2bea4b19fd21dc4310a0",
        batch_size: int = 16,
    ) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; expected 1 or more")
        self.weights, self.revision, self.batch_size = weights, revision, batch_size
        self._located: Located | None = None
        self._extractor: ClapFeatureExtractor | None = None
        self._tokenizer: Any = None
        self._texts: dict[str, Tensor] = {}

    @property
    def judges(self) -> Literal["audio"]:
        """The sound."""
        return "audio"

    def prepare(self) -> None:
        """Find model, preprocessor and tokenizer."""
        if self._located is None:
            self._located = locate_towers(self.weights, self.revision)

    def load(self) -> None:
        """Read them, once."""
        if self._extractor is not None:
            return
        if self._located is None:
            raise RuntimeError("call prepare() first")
        from transformers import ClapFeatureExtractor, ClapModel

        self.model = read_towers(ClapModel, self._located)
        self._tokenizer = read_tokenizer(self._located)
        self._extractor = ClapFeatureExtractor.from_pretrained(str(self._located.folder), local_files_only=True)

    def provenance(self) -> dict[str, Any] | None:
        """Name, and commit or sha256."""
        return None if self._located is None else self._located.provenance()

    def score(self, samples: Sequence[Judged]) -> list[float | None]:
        """cos(sound, prompt), floored at 0."""
        scores: list[float | None] = []
        for first in range(0, len(samples), self.batch_size):
            part = samples[first : first + self.batch_size]
            heard = self._hear(part)
            read = torch.stack([self._read(sample.prompt) for sample in part])
            scores += [max(float(value), 0.0) for value in (heard * read).sum(-1)]
        return scores

    def _hear(self, samples: Sequence[Judged]) -> Tensor:
        """(b, c), normalised."""
        assert self._extractor is not None
        rate, longest = self._extractor.sampling_rate, self._extractor.nb_max_samples
        sounds = [as_heard(sample.waveform, sample.sample_rate, rate)[:longest].numpy() for sample in samples]
        inputs = self._extractor(sounds, sampling_rate=rate, return_tensors="pt")
        features = self.model.get_audio_features(
            input_features=inputs["input_features"].float().to(self.model.device),
            is_longer=inputs["is_longer"].to(self.model.device),
        ).pooler_output
        return torch.nn.functional.normalize(features, dim=-1)

    def _read(self, prompt: str) -> Tensor:
        """(c,), normalised; read once."""
        if prompt not in self._texts:
            limit = self.model.config.text_config.max_position_embeddings - 2  # RoBERTa counts from its padding on
            tokens = self._tokenizer([prompt], truncation=True, max_length=limit, return_tensors="pt")
            features = self.model.get_text_features(
                input_ids=tokens.input_ids.to(self.model.device),
                attention_mask=tokens.attention_mask.to(self.model.device),
            ).pooler_output
            self._texts[prompt] = torch.nn.functional.normalize(features, dim=-1)[0]
        return self._texts[prompt]

    @classmethod
    def example(cls, folder: Path) -> Self:
        """With tiny random weights made in `folder`."""
        from its_plugins import random_towers

        return cls(weights=str(random_towers.clap(folder)), revision=None, batch_size=2)


def as_heard(waveform: Tensor, sample_rate: int, rate: int) -> Tensor:
    """(n,) -> (m,) at the rate of the model, with its peak at 1; silence stays silence."""
    import torchaudio

    resampled = torchaudio.functional.resample(waveform, sample_rate, rate)
    peak = resampled.abs().max()
    return resampled / peak if peak > 0 else resampled
