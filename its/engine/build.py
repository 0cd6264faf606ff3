"""Build a run of `its predict` from config files and the command line, with LightningCLI."""

from __future__ import annotations

import logging
from argparse import SUPPRESS
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI

from its.config.allowlist import ConfigRules
from its.config.compose import Config, compose
from its.config.options import PredictOptions
from its.engine.assembly import TRAINER_DEFAULTS, Assembly
from its.engine.distributed import GracefulShutdown, with_cluster_environment
from its.engine.progress import Progress
from its.engine.trainer import default_precision
from its.environment import launched_processes, rank
from its.errors import UserError
from its.evaluation.run_scorer import RunScorer, make_run_scorer
from its.instantiate import plugin_class
from its.interfaces import Plugin
from its.media.limited import user_path
from its.methods.base import Method
from its.methods.classes import method_class
from its.output import say
from its.runs.writer import SampleWriter
from its.specs.prompts import PromptGrid
from its.specs.spec import SampleSpec, assign_ids
from its.weights import Download, WeightsNotFound, download, prepare
from its.weights.downloads import check_disk_space

logger = logging.getLogger(__name__)

USAGE = "its predict --config NAME [--config FILE ...] [--KEY VALUE ...]"
DESCRIPTION = (
    "Make images that sound, as YAML files describe them, for example: its predict --config castle_bell --data.seeds "
    "'[1, 2]'. `its configs` lists packaged configs, and --print_config prints all keys with their values. "
    "All commands take --quiet (log only warnings and errors) and --verbose (log more)."
)
TRAINER_KEYS = ("accelerator", "devices", "num_nodes", "strategy", "precision", "logger", "callbacks", "plugins")
"""Keys of the Trainer that the help lists; the others are for training."""

HELP = ("-h", "--help", "--print_config")


class PredictCLI(LightningCLI):
    """LightningCLI of `its predict`: takes a composed config, finds the weights, and creates the Trainer.

    Attributes:
        options: keys outside of the sections model, data and trainer.
        resolved: the config with all defaults: see `Assembly.resolved`.
        specs: samples of the run.
        save: extra files to write for every sample.
        progress, shutdown: callbacks.
        run_scorer: None without scorers.
    """

    model: Method
    datamodule: PromptGrid
    options: PredictOptions
    resolved: dict[str, Any]
    specs: list[SampleSpec]
    save: list[str]
    progress: Progress
    shutdown: GracefulShutdown
    run_scorer: RunScorer | None

    def __init__(self, config: Config, *, trusted: Sequence[str] = (), help_for: Sequence[str] = ()) -> None:
        """Build everything; weights are found, but not downloaded or loaded.

        Args:
            config: composed.
            trusted: modules whose classes the config may name.
            help_for: help options (`--help`, `--print_config`); with any, print help and exit.

        Raises:
            UserError: with all faults of the config.
            SystemExit: after `--help` or `--print_config`.
        """
        self.composed = config
        self.trusted = trusted
        self.help_for = help_for
        super().__init__(
            method_class(config.method),
            PromptGrid,
            save_config_callback=None,  # `save_config` leaves secrets out and supports resuming
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=False,  # noise comes from each sample's own generator
            parser_kwargs={"prog": "its predict", "usage": USAGE, "description": DESCRIPTION},
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the keys to the parser only for help: it takes a third of a second."""
        if self.help_for:
            super().add_core_arguments_to_parser(parser)
            for group in parser._action_groups:
                group.title = "Lightning's Trainer" if "every aspect of training" in str(group.title) else group.title
            for action in parser._actions:
                section, _, key = action.dest.partition(".")
                if section == "trainer" and key.partition(".")[0] not in TRAINER_KEYS:
                    action.help = SUPPRESS
                elif action.dest == "config":
                    action.help = "Name of a packaged config, or a YAML file. Later ones overlay earlier ones."

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the keys of the command itself."""
        parser.add_class_arguments(PredictOptions, skip={"seed_everything"})

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Use the composed config. The parser only prints help."""
        if help_options := [argument for argument in self.help_for if not argument.startswith("--print_config")]:
            for name in (argument.partition("=")[2] for argument in help_options if "=" in argument):
                self._check_help_for(name)  # otherwise the parser would import any class
            parser.parse_args(help_options)
        self.config = {"seed_everything": False}  # the only key that Lightning reads

    def instantiate_classes(self) -> None:
        """Build all objects, find the weights, and create the Trainer."""
        assembly = Assembly(self.composed, trusted=self.trusted)
        if any(argument.startswith("--print_config") for argument in self.help_for):
            say(yaml.safe_dump(assembly.resolved, sort_keys=False, allow_unicode=True).rstrip("\n"))
            raise SystemExit(0)
        warning = assembly.find_weights()
        self.model, self.datamodule, self.options = assembly.method, assembly.data, assembly.options
        self.resolved, self.config_init = assembly.resolved, {"trainer": assembly.trainer}
        self.prepare_run()
        if warning is not None and rank() == 0:
            logger.warning(warning)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Create the Trainer, which may start processes.

        Raises:
            UserError: Lightning refuses its settings, or they are for another number of processes than were started.
        """
        trainer = self.config_init["trainer"]
        try:
            plugins = with_cluster_environment(trainer.get("plugins"), trainer.get("num_nodes"))
            created = super().instantiate_trainer(**kwargs, plugins=plugins or None)
        except (ImportError, MisconfigurationException, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"trainer: {' '.join(str(error).split())}") from None
        if created.world_size != (launched := launched_processes()) and launched > 1:
            # Otherwise each process would make all samples.
            raise UserError(
                f"{launched} processes were started together, but trainer.devices and trainer.num_nodes are for "
                f"{created.world_size}: set them, for example --trainer.devices {launched}"
            )
        return created

    def check_disk_space(self) -> None:
        """Check that the disk has room for the weights that will be downloaded.

        Raises:
            UserError: it does not.
        """
        check_disk_space(self._downloads())

    def prepare(self) -> None:
        """Download the missing weights of the method and of the scorers.

        Raises:
            UserError: the disk has too little space, or a download failed; complete files are kept.
        """
        try:
            download(self._downloads())
            self.model.prepare()
            prepare([] if self.run_scorer is None else self.run_scorer.scorers)
        except WeightsNotFound as missing:
            raise UserError(f"{missing}. The same command resumes the download") from None

    @property
    def output(self) -> Path:
        """The run directory."""
        return user_path(self.options.output)

    def _check_help_for(self, name: str) -> None:
        """Refuse help for a class that a config may not name."""
        try:
            plugin_class(name, Plugin)
        except UserError:
            ConfigRules(trusted=self.trusted).find(name, object, "")

    def prepare_run(self) -> None:
        """Create scorers, specs, callbacks and the Trainer. Requires that the weights were found."""
        options, model, data = self.options, self.model, self.datamodule
        trainer = self.config_init["trainer"]
        if options.seed_everything is not False:
            seed_everything(None if options.seed_everything is True else options.seed_everything)
        self.run_scorer = make_run_scorer(options.scorers, options.keep, fallback=model.fallback)
        if self.run_scorer is not None:
            self.run_scorer.prune(model, batch_size=data.largest)
            data.by_pair = self.run_scorer.prunes
        self.save = self._extras()
        self.specs = data.rows = assign_ids(data.expand(model.expert_names), model.definition)
        self.progress, self.shutdown = Progress(), GracefulShutdown()
        model.samples = self.output / "samples"
        writer = SampleWriter(self.output, self.save, config=self.resolved, metadata=options.metadata)
        configured = trainer.get("callbacks") or []
        configured = configured if isinstance(configured, list) else [configured]
        callbacks = [*configured, writer, self.progress, self.shutdown]
        # PromptGrid distributes the specs over the ranks: no sampler may do it again.
        settings: dict[str, Any] = {"callbacks": callbacks, "use_distributed_sampler": False}
        settings["default_root_dir"] = trainer.get("default_root_dir") or str(self.output)
        if model.needs_gradients:
            settings["inference_mode"] = False
        if (precision := default_precision(trainer, model.cuda_precision)) is not None:
            settings["precision"] = precision
        self.trainer = self.instantiate_trainer(**settings)

    def _downloads(self) -> list[Download]:
        scorers = [] if self.run_scorer is None else self.run_scorer.scorers
        return [*self.model.find(), *(one for scorer in scorers for one in scorer.find())]

    def _extras(self) -> list[str]:
        save: list[str] = list(self.options.save)
        if "latents" in save and not self.model.has_latents:
            raise UserError(f"save contains latents, but {type(self.model).__name__} has none: leave latents out")
        if "colorizer" in dict(self.model.components()):
            return [*save, "color"]
        if "color" in save:
            raise UserError("save contains color, but model.colorizer is null: set a colorizer, or leave color out")
        return save


def build(files: Sequence[Path], arguments: Sequence[str], trusted: Sequence[str] = ()) -> PredictCLI:
    """Compose the config and build the run.

    Args:
        files: configs; each overlays the one before.
        arguments: `--key=value`.
        trusted: modules whose classes configs may name.

    Raises:
        UserError: with all faults of the config.
        SystemExit: after `--help` or `--print_config`.
    """
    options = [argument.partition("=")[0] for argument in arguments]
    is_help = [option in HELP or option.endswith(".help") for option in options]
    help_for = [argument for argument, is_true in zip(arguments, is_help, strict=True) if is_true]
    config = compose(files, [argument for argument, is_true in zip(arguments, is_help, strict=True) if not is_true])
    if "model" not in config.values and not help_for:
        raise UserError(
            "no config with a model was given; expected for instance its predict --config castle_bell "
            "(`its configs` lists all)"
        )
    return PredictCLI(config, trusted=trusted, help_for=help_for)
