"""Figures of the paper (arXiv 2405.12221, Tables 1 and 3, Section 4), and runs that reproduce them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

SAMPLE_SECONDS = 10.0
"""The paper's time for a sample of the main method or Imprint, on an L40S."""
DISTILLATION_SECONDS = 7200.0
"""The paper's time for a sample of score distillation, on an L40S."""


@dataclass(frozen=True, kw_only=True)
class PaperRun:
    """Settings of a run of `its predict`.

    Attributes:
        folder: name of the run directory in the experiment's output folder.
        configs: paths in the folder of configs; later ones override earlier ones.
        options: further options of `its predict`.
        samples: number of samples in the paper's protocol.
        seconds: the paper's time for a sample.
    """

    folder: str
    configs: tuple[str, ...]
    options: tuple[str, ...] = ()
    samples: int = 1000
    seconds: float = SAMPLE_SECONDS


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """Row of a table in the paper.

    Attributes:
        label: the paper's name of the row.
        making: run that makes the row's samples.
        where: settings of the row's samples, by dotted key; empty for all samples of the run.
        clip, clap: the paper's scores in percent, with intervals if reported; None if not reported.
    """

    label: str
    making: PaperRun
    where: Mapping[str, float] = field(default_factory=dict)
    clip: str | None = None
    clap: str | None = None


_TABLE_1 = "paper/table1.yaml"
_MAIN = PaperRun(folder="multimodal_denoising", configs=(_TABLE_1,))
_GUIDANCE = PaperRun(folder="guidance", configs=("paper/table3_guidance.yaml",), samples=3000)
_WARM_START = PaperRun(folder="warm_start", configs=("paper/table3_warm_start.yaml",), samples=4000)


def _guidance(scale: float, clip: str, clap: str) -> PaperRow:
    where = {"guidance_scale.visual": scale, "guidance_scale.audio": scale}
    return PaperRow(label=f"guidance {scale:g}", making=_GUIDANCE, where=where, clip=clip, clap=clap)


def _warm_start(visual: float, audio: float, clip: str, clap: str) -> PaperRow:
    where = {"combiner.t.visual": visual, "combiner.t.audio": audio}
    label = f"t_v = {visual:g}, t_a = {audio:g}"
    return PaperRow(label=label, making=_WARM_START, where=where, clip=clip, clap=clap)


_SDS = PaperRun(
    folder="sds",
    configs=(_TABLE_1, "methods/sds.yaml"),
    options=("--data.seeds={start: 0, count: 4}", "--data.batch_size=1"),
    samples=400,
    seconds=DISTILLATION_SECONDS,
)
_GRIFFIN_LIM = PaperRun(folder="griffin_lim", configs=(_TABLE_1,), options=("--model.vocoder=GriffinLim",))


def _table_1(folder: str) -> PaperRun:
    return PaperRun(folder=folder, configs=(_TABLE_1, f"methods/{folder}.yaml"))


EXPERIMENTS: dict[str, tuple[PaperRow, ...]] = {
    "table1": (
        PaperRow(label="Stable Diffusion alone", making=_table_1("visual_only"), clip="34.5 (0.1)", clap="2.2 (0.2)"),
        PaperRow(label="Auffusion alone", making=_table_1("audio_only"), clip="22.5 (0.1)", clap="48.3 (0.6)"),
        PaperRow(label="Imprint", making=_table_1("imprint"), clip="27.2 (0.2)", clap="32.3 (1.0)"),
        PaperRow(label="SDS", making=_SDS, clip="25.4 (0.2)", clap="23.4 (1.4)"),
        PaperRow(label="multimodal denoising", making=_MAIN, clip="28.2 (0.1)", clap="33.5 (0.9)"),
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
        PaperRow(label="HiFi-GAN", making=_MAIN, clip="28.2 (0.1)", clap="33.5 (0.9)"),
        PaperRow(label="Griffin-Lim", making=_GRIFFIN_LIM, clap="30.2"),
    ),
}
"""Rows by experiment. Rows and experiments may share a run."""
