"""Samples, in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from its.audio.spectrogram import SpectrogramFormat
from its.specs.spec import SampleSpec

CHECKPOINT = "checkpoint.safetensors"
"""File in the sample's folder in which a slow method keeps its state until the sample is complete."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The content of a sample; all tensors float32 on the CPU.

    Attributes:
        latents: (c, h, w) clean latents, untrimmed; None if the method has none.
        spectrogram: (h, w) gray in [0, 1], row 0 the highest band: the image that sounds. In stereo (3, h, w).
        picture: (3, h, w) in [0, 1], the same latents decoded by the picture's own codec.
        waveform: (n,) in [-1, 1]; in stereo (2, n).
        sample_rate: in Hz.
        color: (3, h, w) in [0, 1], whose channel mean is the spectrogram; None without a colorizer.
        format: of the spectrogram that was played, to draw the sound again; None if it isn't known.
    """

    latents: Tensor | None
    spectrogram: Tensor
    picture: Tensor
    waveform: Tensor
    sample_rate: int
    color: Tensor | None = None
    format: SpectrogramFormat | None = None


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a method made of a spec: a result, or the reason for its failure.

    Attributes:
        spec: the sample's definition.
        result: None if it failed or was stopped.
        error: reason of the failure, in one line.
        traceback: of the error, for debugging.
        timings: seconds by stage, for the batch that this sample was in.
        scores: measured by the method, JSON-serialisable.
        precision: None for the run's own.
        stopped: step and scores at which it was stopped early in favour of others of its prompts; None if it wasn't.
        evaluations: how often networks were run for it, `made`, and for a complete sample, `whole`, where counted.
    """

    spec: SampleSpec
    result: Result | None = None
    error: str | None = None
    traceback: str | None = None
    timings: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    precision: str | None = None
    stopped: Mapping[str, Any] | None = None
    evaluations: Mapping[str, int] | None = None
