"""The embedded judge: says whether the pack's pictures and sounds are of what their prompts name, without any download.

It is not CLIP and not CLAP. It tells the pack's own classes from each other, and knows nothing else.
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
from its_plugins.mini.judge_network import CLASSES, FILES, Classifier, load, loud, shrink

PACK = "pack:mini"


class _Judge(PretrainedComponent, Scorer):
    """What both judges share: the probability of what a prompt names, among the pack's classes and none of them."""

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
        """A prompt that names several classes is judged by all of them; one that names none has no score."""
        return [self._score(sample) for sample in samples]

    def _score(self, sample: ScorerInput) -> float | None:
        named = classes(self.kind, sample.prompt)
        if not named:
            return None
        assert self.network is not None
        device = next(self.network.parameters()).device
        logits = self.network(self.look(sample).to(device))[0].float()
        chosen = logits.softmax(0).cpu()[[CLASSES[self.kind].index(name) for name in named]]
        return min(float(chosen.sum()), 1.0)

    @abstractmethod
    def look(self, sample: ScorerInput) -> Tensor:
        """What the network sees of a sample, (1, 128, r)."""


@register
class MiniPictureJudge(_Judge):
    """Embedded judge of pictures (not CLIP): probability that it is what the prompt names, of the pack's classes."""

    kind: Kind = "visual"

    @property
    def modality(self) -> Literal["visual", "audio"]:
        return "visual"

    def look(self, sample: ScorerInput) -> Tensor:
        return shrink(sample.picture[None])


@register
class MiniSoundJudge(_Judge):
    """Embedded judge of sounds (not CLAP): probability that it is what the prompt names, of the pack's classes."""

    kind: Kind = "audio"

    @property
    def modality(self) -> Literal["visual", "audio"]:
        return "audio"

    def look(self, sample: ScorerInput) -> Tensor:
        """The sound's spectrogram, in the format that the pack was trained on, as loud as it can be drawn."""
        sound = resample(sample.waveform, sample.sample_rate, AUFFUSION.sample_rate)
        gray = AUFFUSION.to_picture(AUFFUSION.log_mel(sound[None]))[:, 0]
        return shrink(loud(gray))
