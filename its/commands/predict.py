"""`its predict`: a YAML file names the parts, LightningCLI builds them, Lightning's predict loop runs them."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence

from its import STARTED, registry
from its.config.compose import split_arguments
from its.engine.build import PredictCLI, build
from its.errors import UserError
from its.evaluation.scoring import check_csv
from its.output import say, visible
from its.report.gallery import write_gallery
from its.report.page import PAGE
from its.report.wandb_log import log_samples, runs_of
from its.runs.directory import check_writable, report, save_config
from its.runs.reader import stored_samples
from its.runs.resume import RunStatus, check_same_settings, is_saved, look

logger = logging.getLogger(__name__)

NO_METADATA = ("--no-metadata", "--no_metadata")
"""Spellings of `--metadata false` that other commands take too."""


def main(arguments: Sequence[str]) -> int:
    """Make images that sound, as YAML files describe them.

    Returns:
        0 when every sample was made, 1 when some failed, 130 when it was interrupted.

    Raises:
        UserError: the command line, a config or an input is wrong; nothing was made.
    """
    imported = time.perf_counter()
    quiet()
    files, modules, rest = split_arguments(arguments)
    rest = ["--metadata=false" if argument in NO_METADATA else argument for argument in rest]
    registry.load_plugins()
    registry.load_modules(modules)
    cli = build(files, rest, modules)
    cli.model.startup = {"import": imported - STARTED, "find": time.perf_counter() - imported}
    return make(cli)


def make(cli: PredictCLI) -> int:
    """Make the samples of a run that was built; as `main`."""
    first = cli.trainer.is_global_zero
    before = RunStatus()
    tried: list[int] = []
    if first:  # it alone looks into the folder, which may hold very many samples, and tells the others
        before = look(cli.output / "samples", [spec.id for spec in cli.specs], cli.save, prunes=cli.datamodule.by_pair)
        check_same_settings(cli.output, cli.resolved, before, mixed=cli.options.mixed)
        tried = sorted((*before.missing, *before.failed)) if cli.options.retry_failed else list(before.missing)
        cli.datamodule.open_rows = tried
        cli.progress.expect(len(tried), earlier=len(cli.specs) - len(tried), config=cli.resolved)
    needs_weights = bool(tried) or _has_started_processes(cli)
    if needs_weights:
        cli.check_room()
    check_writable(cli.output)
    if cli.run_scorer is not None:
        check_csv(cli.output)
    status = 0
    if needs_weights:
        cli.prepare()
        if first:
            runs_of(cli.trainer)  # before anything is made, in case that W&B can't begin
            save_config(cli.resolved, cli.output, mixed=cli.options.mixed)
        status = _run(cli)
    if not first:
        return status
    if cli.run_scorer is not None and not status:
        names = [spec.id for spec in cli.specs]
        cli.run_scorer.judge(cli.output, names, device=str(cli.trainer.strategy.root_device))
    # A run of very many samples is not read for nothing.
    changed = tried or cli.run_scorer is not None or not (cli.output / PAGE).exists()
    if cli.options.gallery and changed:
        _show(cli)
    log(cli)
    reported = report(cli.output, cli.specs, before=before, tried=tried)
    return status or reported


def log(cli: PredictCLI) -> None:
    """Log the samples of all ranks where the trainer's logger is W&B's; the run folder has them."""
    for run in runs_of(cli.trainer):
        log_samples(run, stored_samples(cli.output, [spec.id for spec in cli.specs]))
        run.finish()


def _has_started_processes(cli: PredictCLI) -> bool:
    """Whether other processes are there already, and would wait for this one in vain."""
    environment = getattr(cli.trainer.strategy, "cluster_environment", None)
    return environment is not None and cli.trainer.world_size > 1 and environment.creates_processes_externally


def _run(cli: PredictCLI) -> int:
    """Make the samples. 0, or the exit status where it had to stop early; what was made is whole."""
    try:
        cli.trainer.predict(cli.model, datamodule=cli.datamodule, return_predictions=False)
    except SystemExit:  # what Lightning makes of Ctrl-C
        logger.error("interrupted; the same command goes on where this stopped")
        return 130
    cli.shutdown.wait()
    if cli.model.stopped is not None:
        logger.error(f"stopped: {cli.model.stopped}")
        return 1
    return 0


def _show(cli: PredictCLI) -> None:
    """Write the page that shows the run. Whatever is wrong with it, the samples are whole."""
    try:
        page, _ = write_gallery([cli.output], cli.output, own=is_saved(cli.output, cli.resolved))
        say(f"look and listen: {page}")
    except UserError as error:
        logger.warning(f"no page that shows the run: {error}")


def quiet() -> None:
    """Warnings as one line each; none of Lightning's hints about things that are meant here."""
    plain = warnings.formatwarning
    warnings.formatwarning = lambda message, category, *where: (
        f"its: WARNING: {visible(str(message))}\n" if category is UserWarning else plain(message, category, *where)
    )
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for pattern in (".*does not have many workers.*", ".*isinstance.treespec, LeafSpec.*", ".*predict_dataloader.*"):
        warnings.filterwarnings("ignore", message=pattern)
