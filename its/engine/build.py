"""From config files and the command line to parts that are ready: by LightningCLI, or on a pack of weights instead."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError, set_parsing_settings
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from its import registry
from its.config import fallback
from its.config.compose import (
    COMMAND_LINE,
    RISKY_MODULES,
    TRUSTED_MODULES,
    Composed,
    class_choices,
    without_key,
)
from its.config.parse_errors import plain_message
from its.engine.distributed import Peers
from its.engine.progress import Progress
from its.engine.trainer import check_trainer
from its.errors import UserError
from its.evaluation.judging import Judging, judging_of
from its.evaluation.ranking import Keep
from its.methods.base import Method
from its.methods.classes import method_class
from its.runs.directory import resolved
from its.runs.writer import SampleWriter
from its.specs.prompts import PromptGrid
from its.specs.spec import SampleSpec, assign_ids
from its.weights import Download, WeightsNotFound, download, prepare
from its.weights.downloads import check_room

TRAINER_DEFAULTS = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,  # ours counts samples and steps
    "enable_model_summary": False,
}


class _Parser(LightningArgumentParser):
    """Lightning's, but without files in the place of values: `its.config.compose` has read and checked those."""

    def add_class_arguments(self, *args: Any, **options: Any) -> list[str]:
        return super().add_class_arguments(*args, **(options | {"sub_configs": False}))


class PredictCLI(LightningCLI):
    """LightningCLI with `method`, `output` and `save`, which finds the weights before a trainer is made.

    Attributes:
        specs: all samples to make, each once.
        save: extras that are written with every sample.
        progress: counts them.
        peers: the other processes.
        judging: scorers and the use of their scores; None without.
    """

    model: Method
    datamodule: PromptGrid
    specs: list[SampleSpec]
    save: list[str]
    progress: Progress
    peers: Peers
    judging: Judging | None

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the keys of the command itself."""
        parser.add_argument("--method", type=str, default=self._model_class.__name__, help="Whose keys `model` has.")
        parser.add_argument("--output", type=str, default="runs/its", help="The run folder.")
        parser.add_argument(
            "--save",
            type=list[Literal["image", "latents", "color", "colormap", "cycle", "video"]],
            default=[],
            help="What to write besides the spectrogram and the sound.",
        )
        parser.add_argument(
            "--retry_failed", type=bool, default=False, help="Make rows again that failed in an earlier run."
        )
        parser.add_argument(
            "--mixed", type=bool, default=False, help="Put samples of other settings into a folder that holds some."
        )
        parser.add_argument(
            "--metadata", type=bool, default=True, help="Whether files say inside how they were made, for its rerun."
        )
        parser.add_argument(
            "--gallery", type=bool, default=True, help="Write RUN/index.html at the end, which reads the whole run."
        )
        parser.add_argument("--scorers", type=list[Any], default=[], help="Who scores the samples: names, or a pack's.")
        parser.add_argument("--keep", type=Keep | None, default=None, help="What to keep of each prompt pair.")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what was composed."""
        self.config = parser.parse_args(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Check everything that can be checked; only then make a trainer, which may start processes."""
        settings = self.config_init["trainer"]
        check_trainer(settings)
        self.model.find()
        keys = self.config_init
        self.judging = judging_of(keys.scorers, keys.keep, fallback=self.model.fallback)
        if self.judging is not None:
            self.judging.prune(self.model, batch_size=self.datamodule.batch_size)
            self.datamodule.by_pair = self.judging.prunes
        self.save = self._extras()
        self.specs = assign_ids(self.datamodule.expand(self.model.expert_names), self.model.definition)
        self.datamodule.rows = self.specs
        self.progress, self.peers = Progress(), Peers()
        callbacks = [
            *(settings.get("callbacks") or []),
            SampleWriter(self.output, self.save, config=resolved(self), metadata=self.config.metadata),
            self.progress,
            self.peers,
        ]
        self.model.samples = self.output / "samples"
        if self.model.needs_gradients:
            kwargs["inference_mode"] = False
        # PromptGrid gives each rank its rows, also where there are fewer than ranks: nobody else may do it again.
        return super().instantiate_trainer(callbacks=callbacks, use_distributed_sampler=False, **kwargs)

    def check_room(self) -> None:
        """Check that the weights to download fit on the disk.

        Raises:
            UserError: they don't.
        """
        check_room(self._downloads())

    def prepare(self) -> None:
        """Download the weights that are missing, of the method and of the scorers together.

        Raises:
            UserError: the disk has too little room, or a download failed; what has arrived is kept.
        """
        try:
            download(self._downloads())
            self.model.prepare()
            prepare([] if self.judging is None else self.judging.scorers)
        except WeightsNotFound as missing:
            raise UserError(f"{missing}. The same command goes on where the download stopped") from None

    @property
    def output(self) -> Path:
        """The run folder.

        Raises:
            UserError: it has no name.
        """
        if not str(self.config.output).strip():
            raise UserError("output is empty; expected a folder")
        return Path(self.config.output)

    def _downloads(self) -> list[Download]:
        scorers = [] if self.judging is None else self.judging.scorers
        return [*self.model.find(), *(one for scorer in scorers for one in scorer.find())]

    def _extras(self) -> list[str]:
        save = list(self.config.save)
        if "latents" in save and not self.model.has_latents:
            raise UserError(f"save asks for latents, but {type(self.model).__name__} has none: leave latents out")
        if "colorizer" in dict(self.model.parts()):
            return [*save, "color"]
        if "color" in save:
            raise UserError("save asks for color, but model.colorizer is null: name a colorizer, or leave color out")
        return save


def build(files: Sequence[Path], arguments: Sequence[str], trusted: Sequence[str] = ()) -> PredictCLI:
    """Parse and instantiate; where weights can't be had and the config allows it, on a pack's.

    Args:
        files: configs, each over the one before.
        arguments: of the command line, as `--key=value`.
        trusted: modules whose classes configs may name.

    Raises:
        UserError: something of it is wrong.
    """
    try:
        return parse(files, arguments, trusted=trusted)
    except _Missing as error:
        missing, name = error.weights, error.fallback
    if name is None:
        raise fallback.refused(missing)
    if name not in registry.packs():
        raise UserError(f"model.fallback is {name!r}; there are these packs: {', '.join(registry.packs())}")
    pack = registry.packs()[name]
    cli = _build_on_pack(pack, files, arguments, trusted)
    cli.model.fallback_taken = missing.reason
    if cli.trainer.is_global_zero:
        line = fallback.warning(missing, pack, instead="demo weights", settings=_settings(cli))
        print(line, file=sys.stderr, flush=True)
    return cli


def _build_on_pack(
    pack: registry.Pack, files: Sequence[Path], arguments: Sequence[str], trusted: Sequence[str]
) -> PredictCLI:
    """The pack takes the place of all weights; what the command line says of anything else stays."""
    chosen, _ = class_choices(arguments)
    colorizer = dict(chosen).get("model.colorizer", "")
    for part in ("experts", "codec", "colorizer"):
        arguments = without_key(arguments, f"model.{part}")
    if colorizer is None:
        arguments = [*arguments, "--model.colorizer=null"]
    elif colorizer and pack.colorizer:  # as if a file had named it: the pack's takes its place
        files = [*files, pack.colorizer]
    if not any(key == "model.vocoder" for key, _ in chosen):  # else these are arguments of the config's vocoder
        arguments = without_key(arguments, "model.vocoder")
    try:
        return parse(files, arguments, pack=pack, trusted=trusted)
    except _Missing as missing:
        if missing.key != "model.vocoder":
            raise UserError(f"the pack {pack.name} can't be used: {missing}") from None
    try:
        return parse(files, without_key(arguments, "model.vocoder"), pack=pack, trusted=trusted)
    except _Missing as missing:
        raise UserError(f"the pack {pack.name} can't be used: {missing}") from None


def _settings(cli: PredictCLI) -> str:
    row = cli.specs[0]
    scales = ", ".join(f"{name} {scale:g}" for name, scale in row.guidance_scale.items())
    return f"Settings are the pack's own: {cli.model.length(row)}, guidance {scales}."


def parse(
    files: Sequence[Path],
    arguments: Sequence[str],
    *,
    pack: registry.Pack | None = None,
    trusted: Sequence[str] = (),
) -> PredictCLI:
    """Compose, parse and instantiate, as `build`, with a pack in the place of all weights if there is one.

    Raises:
        UserError: something of it is wrong.
    """
    composed = Composed(trusted=trusted)
    for file in files:
        composed.overlay(file)
    if pack is not None:
        own = pack.methods.get(composed.method)
        composed.replace_weights(pack.config, *([] if own is None else [own]), colorizer=pack.colorizer)
    if chosen := [a.partition("=")[2] for a in arguments if a.startswith("--method=")]:
        composed.change_method(chosen[-1])
    choices, rest = class_choices(without_key(arguments, "method"))
    for key, name in choices:
        composed.choose(key, name)
    kept = []
    for argument in rest:
        key, _, value = argument.removeprefix("--").partition("=")
        if not composed.place(key, value):
            composed.sources[key] = COMMAND_LINE
            kept.append(argument)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.yaml"
        path.write_text(yaml.safe_dump(composed.pruned(), sort_keys=False, allow_unicode=True), encoding="utf-8")
        return _instantiate(composed, ["--config", str(path), *kept])


class _Missing(Exception):
    """Weights that are missing, and the fallback that the config allows."""

    def __init__(self, weights: WeightsNotFound, fallback: str | None) -> None:
        super().__init__(str(weights))
        self.weights = weights
        self.key = weights.reason.partition(":")[0]
        self.fallback = fallback


@dataclass
class _Stage:
    """How far building got, for messages when it stops."""

    keys: list[str] = field(default_factory=list)
    fallback: str | None = None


def _instantiate(composed: Composed, arguments: Sequence[str]) -> PredictCLI:
    stage = _Stage()

    class Observed(PredictCLI):
        def setup_parser(self, *args: Any, **kwargs: Any) -> None:
            super().setup_parser(*args, **kwargs)
            stage.keys = list(self.parser.get_defaults().keys())

        def before_instantiate_classes(self) -> None:
            stage.fallback = self.config.model.fallback

    forbid_imports(composed.trusted)
    try:
        return Observed(
            method_class(composed.method),
            PromptGrid,
            save_config_callback=None,  # ours leaves secrets out and does not mind a second run
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=False,  # noise comes from each sample's own generator
            parser_class=_Parser,
            parser_kwargs={"exit_on_error": False, "prog": "its predict", "description": "Make images that sound."},
            args=list(arguments),
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )
    except WeightsNotFound as missing:
        raise _Missing(missing, stage.fallback) from None
    except ArgumentError as error:
        source = composed.source_of(str(error))
        message = plain_message(str(error), stage.keys)
        raise UserError(f"{source}: {message}" if source else message) from None
    except (ValueError, ImportError, MisconfigurationException) as error:  # a part or the trainer refuses its arguments
        raise UserError(" ".join(str(error).split())) from None


_ARGUMENT_TYPES = (
    "its.specs.prompts.SeedRange",
    "its.methods.score_distillation.optimisation.Guide",
    "its.methods.score_distillation.implicit_image.Network",
    "its.audio.spectrogram.SpectrogramFormat",
    "its.SpectrogramFormat",
    "its.evaluation.ranking.Keep",
    "its.evaluation.ranking.Prune",
)
"""Plain data in arguments, which jsonargparse names by itself."""


def forbid_imports(trusted: Sequence[str]) -> None:
    """Let jsonargparse import, where values name code, only parts that are there, Lightning's and what is trusted."""
    set_parsing_settings(
        import_path_denylist=["*", *RISKY_MODULES],
        import_path_allowlist=[*TRUSTED_MODULES, *_ARGUMENT_TYPES, *registry.nameable(), *trusted],
        instantiate_subclass_spec_in_any=False,
    )
