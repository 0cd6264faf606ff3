"""The run folder: the config that made it, and what came of every row."""

from __future__ import annotations

import itertools
import logging
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from its.errors import UserError
from its.media.atomic import make_folder
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
"""In the header of every config that is written into a run directory."""

NAMED = 20
"""Rows that were not written which are named one by one; a run of thousands may be stopped at its beginning."""


def check_writable(output: Path) -> None:
    """Make the run folder.

    Raises:
        UserError: it can't be made or written to, or its config is not ours.
    """
    samples = contained(output, output / "samples")
    contained(output, output / "lightning_logs")  # where Lightning's own logger writes
    check_marked(output / CONFIG, MARK)
    try:
        make_folder(samples)
        with tempfile.TemporaryFile(dir=samples):  # a name of its own: other processes may write to it too
            pass
    except OSError as error:
        raise UserError(f"output is {output}: it can't be written to ({error.strerror})") from None


def save_config(config: Mapping[str, Any], output: Path, *, mixed: bool = False) -> None:
    """Write a resolved config with the versions it ran on.

    Args:
        config: of this run, resolved.
        output: the run directory.
        mixed: whether the directory holds samples of other configs; theirs is kept then, as `its_config.1.yaml` etc.

    Raises:
        UserError: it can't be written.
    """
    header = "".join(f"# {package} {number}\n" for package, number in versions().items())
    text = header + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    try:
        if mixed and (output / CONFIG).exists() and read_text(output / CONFIG) != text:
            _keep_config(output)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{output / CONFIG} can't be kept: {error}") from None
    write_marked(output / CONFIG, text, MARK)


def _keep_config(output: Path) -> None:
    """Rename the config of an earlier run to the first free number."""
    numbered = ((output / CONFIG).with_suffix(f".{number}.yaml") for number in itertools.count(1))
    (output / CONFIG).rename(next(path for path in numbered if not path.exists()))


def report(output: Path, specs: Sequence[SampleSpec], *, before: RunStatus, tried: Sequence[int]) -> int:
    """Say in one line what there is now; before it, name every row that failed.

    Args:
        output: the run folder.
        specs: all of the run.
        before: how far the folder was when the run began.
        tried: indices of the rows that it was to make; the folder is asked about these alone.

    Returns:
        0 when every sample is there, 1 when some are not.
    """
    left_failed = sorted({*before.failed}.difference(tried))
    samples = output / "samples"
    lost, stopped, unwritten = 0, len(before.stopped), []
    for index in sorted((*tried, *left_failed)):
        record = read_record(samples / specs[index].id)
        if record is None:
            unwritten.append(index)
        elif record.get("status") == "stopped":
            stopped += 1
        elif record.get("status") != "ok":
            lost += 1
            logger.error(f"failed: {_described(specs[index])}: {record.get('error')}")
    for index in unwritten[:NAMED]:
        logger.error(f"failed: {_described(specs[index])}: it was not written")
    if len(unwritten) > NAMED:
        logger.error(f"and {len(unwritten) - NAMED} more were not written")
    whole = len(specs) - lost - stopped - len(unwritten)
    earlier = f", {len(before.done)} of them from an earlier run" if before.done else ""
    earlier += f"; {stopped} were stopped early" if stopped else ""
    say(f"{whole} of {len(specs)} images that sound are in {samples}{earlier}{_what_to_do(lost, len(unwritten))}")
    sys.stdout.flush()
    return 0 if whole + stopped == len(specs) else 1


def _described(spec: SampleSpec) -> str:
    return f"{spec.source}, seed {spec.seed} ({spec.id})"


def _what_to_do(failed: int, unwritten: int) -> str:
    missing = f"; {unwritten} are missing: the same command again makes them" if unwritten else ""
    return missing + (f"; {failed} failed: --retry_failed true makes them again" if failed else "")
