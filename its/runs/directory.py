"""Prepare a run directory, save its config, and report the outcome of a run."""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from its.errors import UserError
from its.media.atomic import make_folder, remove_partials
from its.media.contained import contained
from its.media.limited import read_text
from its.media.marked import check_marked, write_marked
from its.output import say
from its.runs.records import read_record
from its.runs.resume import CONFIG, RunStatus
from its.runs.writer import versions
from its.specs.spec import SampleSpec

logger = logging.getLogger(__name__)

MARK = "# its "
"""Mark in the header of every config in a run directory."""

MAX_LISTED = 20
"""Maximum number of missing samples that are listed one by one."""


def check_writable(output: Path) -> None:
    """Make the run directory, and check that it is writable.

    Raises:
        UserError: the directory can't be made or written to, or its config was not written by `its`.
    """
    samples = contained(output, output / "samples")
    contained(output, output / "lightning_logs")  # Lightning's default logger writes there
    check_marked(output / CONFIG, MARK)
    try:
        make_folder(samples)
        with tempfile.TemporaryFile(dir=samples):  # without a name, since other processes may run the same check
            pass
    except OSError as error:
        raise UserError(f"output is {output}, which can't be written to ({error.strerror})") from None


def save_config(config: Mapping[str, Any], output: Path, *, mixed: bool = False) -> None:
    """Write the config of a run, with the versions of the packages. Temporary files of killed processes are removed.

    Args:
        config: resolved config of this run.
        output: the run directory.
        mixed: whether to keep the config of an earlier run, as `its_config.1.yaml` and so on.

    Raises:
        UserError: the config can't be written, or an earlier one can't be kept.
    """
    remove_partials(output)
    header = "".join(f"# {package} {number}\n" for package, number in versions().items())
    text = header + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    try:
        if mixed and (output / CONFIG).exists() and read_text(output / CONFIG) != text:
            numbered = ((output / CONFIG).with_suffix(f".{number}.yaml") for number in itertools.count(1))
            (output / CONFIG).rename(next(path for path in numbered if not path.exists()))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{output / CONFIG} can't be kept: {error}") from None
    write_marked(output / CONFIG, text, MARK)


def report(output: Path, specs: Sequence[SampleSpec], *, before: RunStatus, tried: Sequence[int]) -> int:
    """Log every sample that failed or is missing, and print the counts of the run directory in one line.

    Args:
        output: the run directory.
        specs: specs of all samples of the run.
        before: status of the directory when the run began.
        tried: indices of the samples that this run had to make. Only their records and those of failed ones are read.

    Returns:
        0 if all samples are complete or were stopped early, else 1.
    """
    samples = output / "samples"
    failed, stopped, missing = 0, len(before.stopped), 0
    for index in sorted({*tried, *before.failed}):
        spec = specs[index]
        record = read_record(samples / spec.id)
        status = None if record is None else record.get("status")
        if status == "stopped":
            stopped += 1
        elif record is None:
            missing += 1
            if missing <= MAX_LISTED:
                logger.error(f"failed: {spec.source}, seed {spec.seed} ({spec.id}): the sample was not written")
        elif status != "ok":
            failed += 1
            logger.error(f"failed: {spec.source}, seed {spec.seed} ({spec.id}): {record.get('error')}")
    if missing > MAX_LISTED:
        logger.error(f"{missing - MAX_LISTED} more were not written")
    done = len(specs) - failed - stopped - missing
    summary = f"{done} of {len(specs)} images that sound are in {samples}"
    summary += f", {len(before.done)} of them from an earlier run" if before.done else ""
    summary += f"; {stopped} were stopped early" if stopped else ""
    summary += f"; {missing} are missing: run the same command again" if missing else ""
    summary += f"; {failed} failed: retry them with --retry_failed true" if failed else ""
    say(summary)
    return 0 if done + stopped == len(specs) else 1
