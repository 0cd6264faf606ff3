"""Find the existing samples of a run directory, and check that a run may continue in it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from its import registry
from its.errors import UserError
from its.instantiate.yaml_values import read_yaml
from its.media.contained import contained
from its.media.limited import read_text
from its.privacy import scrub
from its.runs.records import check_values, read_record
from its.runs.sample_files import is_done

logger = logging.getLogger(__name__)

CONFIG = "its_config.yaml"

READERS = 16
"""Number of threads that read records; shared file systems have a high latency."""

_ROW_KEYS = tuple(
    f"data.{key}" for key in ("prompts", "seeds", "batch_size", "start", "keep", "control", "interpolate")
)
_EXECUTION_KEYS = ("fallback", "channels_last", "attention", "compile", "cuda_graph", "streams")
"""Last components of keys that affect how a sample is made, but not the sample."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """Indices of a run's samples by their status in the run directory.

    Attributes:
        done: complete samples with all extras.
        failed: samples that failed in an earlier run.
        stopped: samples that pruning stopped in an earlier run.
        missing: all other samples.
        others: number of folders of other samples in the directory.
    """

    done: Sequence[int] = ()
    failed: Sequence[int] = ()
    stopped: Sequence[int] = ()
    missing: Sequence[int] = ()
    others: int = 0


def read_status(samples: Path, names: Sequence[str], extras: Sequence[str] = (), *, prunes: bool = False) -> RunStatus:
    """Read the status of samples, from the existing folders only.

    Args:
        samples: the folder of all samples.
        names: ids of the run's samples.
        extras: keys of `its.runs.sample_files.EXTRAS` that a complete sample must have.
        prunes: whether samples that were stopped early stay stopped; otherwise they count as missing.
    """
    try:
        with os.scandir(samples) as entries:
            existing = {entry.name for entry in entries}
    except FileNotFoundError:
        existing = set()
    by_status: dict[str, list[int]] = {"done": [], "failed": [], "stopped": [], "missing": []}
    present = [index for index, name in enumerate(names) if name in existing]
    with ThreadPoolExecutor(READERS) as pool:
        outcomes = pool.map(lambda index: _outcome(samples / names[index], extras), present)
        known = dict(zip(present, outcomes, strict=True))
    for index in range(len(names)):
        outcome = known.get(index, "missing")
        by_status["missing" if outcome == "stopped" and not prunes else outcome].append(index)
    return RunStatus(**by_status, others=len(existing.difference(names)))


def check_same_settings(output: Path, config: Mapping[str, Any], status: RunStatus, *, mixed: bool) -> None:
    """Check that a run directory has no samples of other settings, unless the user allows mixing them.

    More prompts, seeds or points of a sweep are not other settings, nor are the same weights from another place: if
    the directory has a sample with an id of this run, which depends on settings and weights, the run may continue.

    Args:
        output: the run directory.
        config: resolved config of this run.
        status: status of the directory.
        mixed: whether samples of other settings are allowed.

    Raises:
        UserError: the directory has samples of other settings; the message lists the keys that differ.
    """
    if not status.others:
        return
    existing = len(status.done) + len(status.failed) + len(status.stopped)
    differing = [] if mixed or existing else list(differences(scrub(_saved_config(output)), scrub(config)))
    if differing:
        raise UserError(
            f"{output} has {status.others} samples of another config: {'; '.join(differing)}. "
            "Choose another --output, or set --mixed true to have both in this directory"
        )
    logger.info(f"{status.others} samples of other specs or settings in {output} are left unchanged")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield a text for each key that differs between two configs and affects the samples."""
    before, now = (dict(_flatten(config)) for config in (old, new))
    for key in sorted(before.keys() | now.keys()) if before else ():
        if before.get(key) != now.get(key) and _affects_samples(key):
            yield f"{key} is {_short(before.get(key))} there, {_short(now.get(key))} here"


def is_saved(run: Path, config: Mapping[str, Any]) -> bool:
    """Return whether a config equals the one saved in a run directory."""
    return bool(scrub(_saved_config(run)) == scrub(config))


def load_config(run: Path) -> dict[str, Any]:
    """Read the resolved config of the last run in a run directory.

    Raises:
        UserError: the config can't be read.
    """
    path = contained(run, run / CONFIG)
    try:
        config = read_yaml(read_text(path))
        check_values(config)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
        raise UserError(f"{path} can't be read: {reason}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} contains no config; expected a mapping")
    return config


def _outcome(folder: Path, extras: Sequence[str]) -> str:
    record = read_record(folder)
    if record is not None and record.get("status") in ("failed", "stopped"):
        return str(record["status"])
    return "done" if is_done(folder, extras, record) else "missing"


def _saved_config(run: Path) -> Mapping[str, Any]:
    """Return the config saved in a run directory; empty if it is missing or can't be read."""
    try:
        return load_config(run)
    except UserError:
        return {}


def _flatten(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flatten(inner, f"{key}.{name}".lstrip("."))
    elif value not in (None, {}):
        yield key, registry.short_name(str(value)) if key.endswith(".class_path") else value


def _affects_samples(key: str) -> bool:
    if not key.startswith(("model.", "data.", "method")) or key.startswith(_ROW_KEYS):
        return False
    return key.rpartition(".")[2] not in _EXECUTION_KEYS


def _short(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
