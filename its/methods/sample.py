"""Samples in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from its.audio.spectrogram import SpectrogramFormat
from its.specs.spec import SampleSpec

CHECKPOINT = "checkpoint.safetensors"
"""Checkpoint file in a sample's folder, deleted when the sample is complete."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """Content of a sample. All tensors are float32 on the CPU.

    Attributes:
        latents: clean latents (c, h, w), untrimmed; None if the method has none.
        spectrogram: the image that sounds, (H, W) gray in [0, 1], row 0 the highest band; (3, H, W) in stereo.
        picture: the same latents decoded by the picture's codec, (3, H, W) in [0, 1].
        waveform: sound of the spectrogram, (n,) in [-1, 1]; (2, n) in stereo.
        sample_rate: sample rate of the sound, in Hz.
        color: colour picture (3, H, W) in [0, 1], whose channel mean is the spectrogram; None without a colorizer.
        format: format of the vocoded spectrogram; None if unknown.
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
    """Outcome for one spec: a result, an error, or an early stop.

    Attributes:
        spec: definition of the sample.
        result: None if the sample failed or was stopped.
        error: error message in one line.
        traceback: traceback of the error.
        timings: seconds by stage, for the complete batch.
        scores: scores measured by the method, JSON-serialisable.
        precision: precision, if it differs from the run's.
        stopped: step and scores at which pruning stopped the sample; None if it did not.
        evaluations: number of network evaluations, `made`, and that of a complete sample, `whole`, if counted.
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
