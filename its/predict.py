"""`its predict`: a YAML file names the parts, LightningCLI builds them, Lightning's predict loop runs them."""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml
from jsonargparse import ArgumentError
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from its import registry
from its.config import COMMAND_LINE, Composed, class_choices, split_arguments, without_key
from its.data import PromptGrid, Row
from its.errors import UserError
from its.methods.denoising import MultimodalDenoising
from its.outputs.progress import Progress
from its.outputs.run import check_writable, mention_others, report, save_config
from its.outputs.sample import is_done, sample_id
from its.outputs.writer import SampleWriter, WriteError
from its.parse_errors import plain_message
from its.weights import WeightsNotFound

TRAINER_DEFAULTS = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,  # ours counts samples and steps
    "enable_model_summary": False,
    "use_distributed_sampler": False,  # PromptGrid gives each rank its rows, also where there are fewer than ranks
}


class _Parser(LightningArgumentParser):
    """Lightning's, but for files in the place of values: those are read by `its.config`, which looks inside first."""

    def add_class_arguments(self, *args: Any, **options: Any) -> list[str]:
        return super().add_class_arguments(*args, **(options | {"sub_configs": False}))


class PredictCLI(LightningCLI):
    """Lightning's, with `output` and `save`, and with the weights found before a trainer is made."""

    model: MultimodalDenoising
    datamodule: PromptGrid

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the keys of the command itself."""
        parser.add_argument("--output", type=str, default="runs/its", help="The run folder.")
        parser.add_argument(
            "--save",
            type=list[Literal["image", "latents", "color"]],
            default=[],
            help="What to write besides the spectrogram and the sound.",
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse what was composed."""
        self.config = parser.parse_args(args)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Check everything that can be checked; only then make a trainer, which may start processes."""
        self.model.prepare()
        self.rows = self.datamodule.expand(self.model.expert_names)
        output, save = Path(self.config.output), list(self.config.save)
        if self.model.colorizer is not None:
            save.append("color")
        elif "color" in save:
            raise UserError("save asks for color, but model.colorizer is null: name a colorizer, or leave color out")
        self.work = _Work.of(self.rows, self.model, output / "samples", save)
        self.datamodule.rows = [row for row, _ in self.work.open]
        callbacks = self.config_init["trainer"].get("callbacks") or []
        ours = [SampleWriter(output, save), Progress(len(self.work.open))]
        return super().instantiate_trainer(callbacks=[*callbacks, *ours], **kwargs)


@dataclass
class _Work:
    """Rows and their sample ids: all of them, and those that are not there yet."""

    all: list[tuple[Row, str]]
    open: list[tuple[Row, str]]

    @classmethod
    def of(cls, rows: Sequence[Row], model: MultimodalDenoising, samples: Path, save: Sequence[str]) -> _Work:
        named = {sample_id(row, model.definition(row)): row for row in reversed(rows)}  # the first of equal rows stays
        every = [(row, name) for name, row in reversed(named.items())]
        return cls(all=every, open=[(row, name) for row, name in every if not is_done(samples / name, save)])


def main(arguments: Sequence[str]) -> int:
    """Run the command.

    Returns:
        0 when every sample was made, 1 when some failed.

    Raises:
        UserError: the command line, a config or an input is wrong; nothing was made.
    """
    _quiet()
    files, modules, rest = split_arguments(arguments)
    registry.load_plugins()
    registry.load_modules(modules)
    cli = _build(files, rest, modules)
    output = Path(cli.config.output)
    check_writable(output)
    if cli.trainer.is_global_zero:
        mention_others(output, cli.work.all)
    if cli.work.open:
        if cli.trainer.is_global_zero:
            save_config(cli, output)
        if stopped := _run(cli):
            report(output, cli.work.all, made=len(cli.work.open))
            return stopped
    return report(output, cli.work.all, made=len(cli.work.open)) if cli.trainer.is_global_zero else 0


def _run(cli: PredictCLI) -> int:
    """Make the samples. 0, or the exit status where it had to stop early; what was made is whole."""
    try:
        cli.trainer.predict(cli.model, datamodule=cli.datamodule, return_predictions=False)
    except WriteError as error:
        print(f"its: stopped: {error}", file=sys.stderr)
        return 1
    except SystemExit:  # what Lightning makes of Ctrl-C
        print("its: interrupted; the same command goes on where this stopped", file=sys.stderr)
        return 130
    cli.trainer.strategy.barrier("all samples are written")
    return 0


def _build(files: Sequence[Path], arguments: Sequence[str], trusted: Sequence[str] = ()) -> PredictCLI:
    """Parse and instantiate; where weights can't be had and the config allows it, once more on a pack's."""
    try:
        return _parse(files, arguments, trusted)
    except _Missing as missing:
        if missing.fallback is None:
            raise UserError(
                f"{missing}. Give a folder or a hub id, or allow the embedded pack with --model.fallback mini"
            ) from None
        reason, name = str(missing), missing.fallback
    if name not in registry.packs():
        raise UserError(f"model.fallback is {name!r}; there are these packs: {', '.join(registry.packs())}")
    pack = registry.packs()[name]
    while True:
        try:
            cli = _parse([*files, pack.config], arguments, trusted)
            break
        except _Missing as missing:
            # The command line names these weights again: the pack replaces them as a whole, never in part.
            kept = without_key(arguments, missing.key)
            if len(kept) == len(arguments):
                raise UserError(f"the embedded pack can't be used: {missing}") from None
            arguments = kept
    cli.model.fallback_taken = reason
    if cli.trainer.is_global_zero:
        scales = ", ".join(f"{k} {v:g}" for k, v in cli.rows[0].guidance_scale.items())
        print(
            f"its: {'!' * 8} NOT THE WEIGHTS THAT THE CONFIG NAMES: {reason}. Taking the whole pack {name} instead "
            f"({pack.summary}), with its own settings ({cli.model.process.steps} steps, guidance {scales}). "
            "For the real ones: run once with a network, or point model.experts.*.weights and model.vocoder.weights "
            "at local folders; --model.fallback null makes this an error.",
            file=sys.stderr,
            flush=True,
        )
    return cli


class _Missing(Exception):
    def __init__(self, message: str, fallback: str | None) -> None:
        super().__init__(message)
        self.key = message.partition(":")[0]
        self.fallback = fallback


def _parse(files: Sequence[Path], arguments: Sequence[str], trusted: Sequence[str] = ()) -> PredictCLI:
    composed = Composed(trusted=trusted)
    for file in files:
        composed.overlay(file)
    choices, rest = class_choices(arguments)
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


def _instantiate(composed: Composed, arguments: Sequence[str]) -> PredictCLI:
    stage = _Stage()

    class Observed(PredictCLI):
        def setup_parser(self, *args: Any, **kwargs: Any) -> None:
            super().setup_parser(*args, **kwargs)
            stage.keys = list(self.parser.get_defaults().keys())

        def before_instantiate_classes(self) -> None:
            stage.fallback = self.config.model.fallback

    try:
        return Observed(
            MultimodalDenoising,
            PromptGrid,
            save_config_callback=None,  # ours leaves secrets out and does not mind a second run
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=False,  # noise comes from each sample's own generator
            parser_class=_Parser,
            parser_kwargs={"exit_on_error": False, "prog": "its predict", "description": __doc__},
            args=list(arguments),
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )
    except WeightsNotFound as missing:
        raise _Missing(str(missing), stage.fallback) from None
    except ArgumentError as error:
        source = composed.source_of(str(error))
        message = plain_message(str(error), stage.keys)
        raise UserError(f"{source}: {message}" if source else message) from None
    except (ValueError, MisconfigurationException) as error:  # a part or the trainer refuses its arguments
        raise UserError(str(error)) from None


@dataclass
class _Stage:
    """How far building got, for messages when it stops."""

    keys: list[str] = field(default_factory=list)
    fallback: str | None = None


def _quiet() -> None:
    """Warnings as one line each; none of Lightning's hints about things that are meant here."""
    plain = warnings.formatwarning
    warnings.formatwarning = lambda message, category, *where: (
        f"its: {message}\n" if category is UserWarning else plain(message, category, *where)
    )
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for pattern in (
        ".*does not have many workers.*",
        ".*isinstance.treespec, LeafSpec.*",
        ".*predict_dataloader.*",
    ):
        warnings.filterwarnings("ignore", message=pattern)
