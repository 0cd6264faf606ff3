"""Execute a built run of `its predict`: resume, sample, score, and write the gallery."""

from __future__ import annotations

import logging

from its.engine.build import PredictCLI
from its.errors import UserError
from its.evaluation.scoring import check_csv
from its.output import say
from its.report.gallery import write_gallery
from its.report.page import PAGE
from its.report.wandb_log import log_samples, runs_of
from its.runs.directory import check_writable, report, save_config
from its.runs.reader import stored_samples
from its.runs.resume import RunStatus, check_same_settings, is_saved, read_status

logger = logging.getLogger(__name__)


def make(cli: PredictCLI) -> int:
    """Make the samples that the run directory lacks, then score them, write the gallery, and log them.

    Returns:
        Exit status: 0 if all samples were made, 1 if some failed or the run was stopped, 130 after Ctrl-C.

    Raises:
        UserError: the run directory can't be used, or weights can't be downloaded; nothing was made.
    """
    is_first = cli.trainer.is_global_zero
    before = RunStatus()
    todo: list[int] = []
    ids = [spec.id for spec in cli.specs]
    if is_first:  # only rank 0 reads the directory, which may hold very many samples, and broadcasts the result
        before = read_status(cli.output / "samples", ids, cli.save, prunes=cli.datamodule.by_pair)
        check_same_settings(cli.output, cli.resolved, before, mixed=cli.options.mixed)
        todo = sorted((*before.missing, *before.failed)) if cli.options.retry_failed else list(before.missing)
        cli.datamodule.open_indices = todo
        cli.progress.expect(len(todo), earlier=len(cli.specs) - len(todo), config=cli.resolved)
    needs_weights = bool(todo) or _other_processes_wait(cli)
    if needs_weights:
        cli.check_disk_space()
    check_writable(cli.output)
    if cli.run_scorer is not None:
        check_csv(cli.output)
    status = 0
    if needs_weights:
        cli.prepare()
        if is_first:
            runs_of(cli.trainer)  # fails before sampling if W&B can't start
            save_config(cli.resolved, cli.output, mixed=cli.options.mixed)
        status = _sample(cli)
    if not is_first:
        return status
    if cli.run_scorer is not None and not status:
        cli.run_scorer.score(cli.output, ids, device=str(cli.trainer.strategy.root_device))
    # Reading a large run is slow: write the page only if something changed.
    if cli.options.gallery and (todo or cli.run_scorer is not None or not (cli.output / PAGE).exists()):
        _write_gallery(cli)
    for run in runs_of(cli.trainer):
        log_samples(run, stored_samples(cli.output, ids))
        run.finish()
    reported = report(cli.output, cli.specs, before=before, tried=todo)
    return status or reported


def _other_processes_wait(cli: PredictCLI) -> bool:
    """Whether torchrun, srun or another launcher started all processes, so that they wait for this one."""
    environment = getattr(cli.trainer.strategy, "cluster_environment", None)
    return environment is not None and cli.trainer.world_size > 1 and environment.creates_processes_externally


def _sample(cli: PredictCLI) -> int:
    """Run Lightning's predict loop and return the exit status. Samples that were written are complete in any case."""
    try:
        cli.trainer.predict(cli.model, datamodule=cli.datamodule, return_predictions=False)
    except SystemExit:  # raised by Lightning on Ctrl-C
        logger.error("interrupted; the same command resumes the run")
        return 130
    cli.shutdown.wait()
    if cli.model.stopped is not None:
        logger.error(f"stopped: {cli.model.stopped}")
        return 1
    return 0


def _write_gallery(cli: PredictCLI) -> None:
    """Write the gallery of the run. An error is only logged, since the samples are complete."""
    try:
        page, _ = write_gallery([cli.output], cli.output, own=is_saved(cli.output, cli.resolved))
        say(f"gallery: {page}")
    except UserError as error:
        logger.warning(f"the gallery was not written: {error}")
