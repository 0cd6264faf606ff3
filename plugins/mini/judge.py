"""The embedded judge: classifiers that score whether pictures and sounds match their prompts, without a download.

They are neither CLIP nor CLAP: they only distinguish the embedded pack's classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from its.audio.spectrogram import AUFFUSION
from its.audio.waveform import resample
from its.interfaces import Scorer, ScorerInput
from its.registry import register
from its.weights import PretrainedComponent, Source
from its_plugins.mini.captions import Kind, classes
from its_plugins.mini.judge_network import CLASSES, FILES, Classifier, amplify, load, resize

PACK = "pack:mini"


class _Judge(PretrainedComponent, Scorer):
    """Base class of both judges, whose score is the probability of the prompt's classes."""

    kind: Kind

    def __init__(self) -> None:
        super().__init__(weights=PACK)
        self.network: Classifier | None = None

    def select(self, source: Source) -> Sequence[str]:
        return source.require(FILES[self.kind])

    def read(self) -> None:
        with torch.device("cpu"):
            self.network = load(self.kind, self.folder)
        self.network.to(torch.get_default_device())

    def score(self, samples: Sequence[ScorerInput]) -> list[float | None]:
        """Return the sum of the probabilities of each prompt's classes; None if the prompt has no class."""
        return [self._score(sample) for sample in samples]

    def _score(self, sample: ScorerInput) -> float | None:
        names = classes(self.kind, sample.prompt)
        if not names:
            return None
        assert self.network is not None
        device = next(self.network.parameters()).device
        logits = self.network(self.network_input(sample).to(device))[0].float()
        probabilities = logits.softmax(0).cpu()[[CLASSES[self.kind].index(name) for name in names]]
        return min(float(probabilities.sum()), 1.0)

    @abstractmethod
    def network_input(self, sample: ScorerInput) -> Tensor:
        """Convert a sample to the network's input (1, 128, r)."""


@register
class MiniPictureJudge(_Judge):
    """Embedded judge of pictures (not CLIP): probability of the prompt's class among the pack's classes."""

    kind: Kind = "visual"

    @property
    def modality(self) -> Literal["visual", "audio"]:
        return "visual"

    def network_input(self, sample: ScorerInput) -> Tensor:
        return resize(sample.picture[None])


@register
class MiniSoundJudge(_Judge):
    """Embedded judge of sounds (not CLAP): probability of the prompt's class among the pack's classes."""

    kind: Kind = "audio"

    @property
    def modality(self) -> Literal["visual", "audio"]:
        return "audio"

    def network_input(self, sample: ScorerInput) -> Tensor:
        """Compute the sound's spectrogram in the pack's format, normalised to the level of the training data."""
        sound = resample(sample.waveform, sample.sample_rate, AUFFUSION.sample_rate)
        gray = AUFFUSION.to_picture(AUFFUSION.log_mel(sound[None]))[:, 0]
        return resize(amplify(gray))
