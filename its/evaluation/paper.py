"""What the paper reports (arXiv 2405.12221, Tables 1 and 3, Section 4), and how its samples are made here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SAMPLE_SECONDS = 10.0
"""The paper's time for a sample of the main method or Imprint, on an L40S."""
DISTILLATION_SECONDS = 7200.0
"""And for one of score distillation."""


@dataclass(frozen=True, kw_only=True)
class Making:
    """A run that makes samples.

    Attributes:
        folder: of the run, in the experiment's output folder.
        configs: one over the other, relative to the folder of configs.
        options: of `its predict` besides.
        samples: how many the paper's protocol makes.
        seconds: the paper's for a sample.
    """

    folder: str
    configs: tuple[str, ...]
    options: tuple[str, ...] = ()
    samples: int = 1000
    seconds: float = SAMPLE_SECONDS


@dataclass(frozen=True, kw_only=True)
class Reported:
    """A row of a table of the paper's.

    Attributes:
        label: what it calls the row.
        making: the run that its samples are in.
        where: settings of the samples of this row, by dotted key; empty if all of the run are.
        clip, clap: the paper's scores, in percent, with their intervals where it gives some; None where it gives none.
    """

    label: str
    making: Making
    where: Mapping[str, float] = field(default_factory=dict)
    clip: str | None = None
    clap: str | None = None


_TABLE_1 = "paper/table1.yaml"
_MAIN = Making(folder="multimodal_denoising", configs=(_TABLE_1,))
_GUIDANCE = Making(folder="guidance", configs=("paper/table3_guidance.yaml",), samples=3000)
_WARM_START = Making(folder="warm_start", configs=("paper/table3_warm_start.yaml",), samples=4000)


def _guidance(scale: float, clip: str, clap: str) -> Reported:
    where = {"guidance_scale.visual": scale, "guidance_scale.audio": scale}
    return Reported(label=f"guidance {scale:g}", making=_GUIDANCE, where=where, clip=clip, clap=clap)


def _warm_start(visual: float, audio: float, clip: str, clap: str) -> Reported:
    where = {"combiner.t.visual": visual, "combiner.t.audio": audio}
    label = f"t_v = {visual:g}, t_a = {audio:g}"
    return Reported(label=label, making=_WARM_START, where=where, clip=clip, clap=clap)


EXPERIMENTS: dict[str, tuple[Reported, ...]] = {
    "table1": (
        Reported(
            label="Stable Diffusion alone",
            making=Making(folder="visual_only", configs=(_TABLE_1, "methods/visual_only.yaml")),
            clip="34.5 (0.1)",
            clap="2.2 (0.2)",
        ),
        Reported(
            label="Auffusion alone",
            making=Making(folder="audio_only", configs=(_TABLE_1, "methods/audio_only.yaml")),
            clip="22.5 (0.1)",
            clap="48.3 (0.6)",
        ),
        Reported(
            label="Imprint",
            making=Making(folder="imprint", configs=(_TABLE_1, "methods/imprint.yaml")),
            clip="27.2 (0.2)",
            clap="32.3 (1.0)",
        ),
        Reported(
            label="SDS",
            making=Making(
                folder="sds",
                configs=(_TABLE_1, "methods/sds.yaml"),
                options=("--data.seeds={start: 0, count: 4}", "--data.batch_size=1"),
                samples=400,
                seconds=DISTILLATION_SECONDS,
            ),
            clip="25.4 (0.2)",
            clap="23.4 (1.4)",
        ),
        Reported(label="multimodal denoising", making=_MAIN, clip="28.2 (0.1)", clap="33.5 (0.9)"),
    ),
    "table3-guidance": (
        _guidance(5.0, "28.0", "29.3"),
        _guidance(7.5, "28.2", "31.9"),
        _guidance(10.0, "28.2", "33.5"),
    ),
    "table3-warm-start": (
        _warm_start(1.0, 1.0, "28.7", "30.8"),
        _warm_start(1.0, 0.9, "29.0", "27.4"),
        _warm_start(0.9, 1.0, "28.2", "33.5"),
        _warm_start(0.8, 1.0, "27.4", "35.9"),
    ),
    "vocoders": (
        Reported(label="HiFi-GAN", making=_MAIN, clip="28.2 (0.1)", clap="33.5 (0.9)"),
        Reported(
            label="Griffin-Lim",
            making=Making(folder="griffin_lim", configs=(_TABLE_1,), options=("--model.vocoder=GriffinLim",)),
            clap="30.2",
        ),
    ),
}
"""Rows by experiment. One run may serve several rows, and several experiments."""
