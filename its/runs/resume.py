"""What a run folder holds already, and whether a run with this config may go on in it."""

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
"""Threads that read records: on a shared file system the time goes into waiting for each."""

_OTHER_ROWS = ("data.prompts", "data.seeds", "data.batch_size")
_EXECUTION = ("fallback", "channels_last", "attention", "compile", "cuda_graph", "streams")
"""Last part of keys that say how a sample is made, and not which."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """How far a run folder is with some rows, by their index.

    Attributes:
        done: whole, with everything that is asked for.
        failed: tried before, in vain.
        stopped: stopped early, in favour of others of their prompts.
        missing: the others.
        others: how many samples of other rows the folder holds.
    """

    done: Sequence[int] = ()
    failed: Sequence[int] = ()
    stopped: Sequence[int] = ()
    missing: Sequence[int] = ()
    others: int = 0


def look(samples: Path, names: Sequence[str], extras: Sequence[str] = (), *, prunes: bool = False) -> RunStatus:
    """See which samples are there. Only folders that exist are looked into.

    Args:
        samples: the folder that holds them.
        names: ids of the rows' samples.
        extras: some of `its.runs.sample_files.EXTRAS` that a whole sample has.
        prunes: whether samples that were stopped early stay so; else they are missing.
    """
    try:
        with os.scandir(samples) as entries:
            there = {entry.name for entry in entries}
    except FileNotFoundError:
        there = set()
    found: dict[str, list[int]] = {"done": [], "failed": [], "stopped": [], "missing": []}
    present = [index for index, name in enumerate(names) if name in there]
    with ThreadPoolExecutor(READERS) as pool:
        outcomes = pool.map(lambda index: _outcome(samples / names[index], extras), present)
        known = dict(zip(present, outcomes, strict=True))
    for index in range(len(names)):
        outcome = known.get(index, "missing")
        found["missing" if outcome == "stopped" and not prunes else outcome].append(index)
    return RunStatus(**found, others=len(there.difference(names)))


def check_same_settings(output: Path, config: Mapping[str, Any], standing: RunStatus, *, mixed: bool) -> None:
    """Refuse to put samples of other settings beside those that are there, unless that is wanted.

    More prompts, seeds or points of a sweep are no other settings, and neither is a place from which the same weights
    come: where one of the rows is there under its id, which tells settings and weights, the run goes on.

    Args:
        output: the run folder.
        config: of this run, resolved.
        standing: of the folder.
        mixed: whether other settings are wanted.

    Raises:
        UserError: it names the keys that differ.
    """
    if not standing.others:
        return
    ours = len(standing.done) + len(standing.failed) + len(standing.stopped)
    differing = [] if mixed or ours else list(differences(scrub(_saved(output)), scrub(config)))
    if differing:
        raise UserError(
            f"{output} holds {standing.others} samples of another config: {'; '.join(differing)}. "
            "Choose another --output, or have both in this folder with --mixed true"
        )
    logger.info(f"{standing.others} samples of other rows or settings in {output} stay as they are")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """`key: old there, new here` for each key that two resolved configs disagree about and that tells samples apart."""
    before, now = (dict(_flat(config)) for config in (old, new))
    for key in sorted(before.keys() | now.keys()) if before else ():
        if before.get(key) != now.get(key) and _tells_samples_apart(key):
            was, is_now = (_short(values.get(key)) for values in (before, now))
            yield f"{key} is {was} there, {is_now} here"


def is_saved(run: Path, config: Mapping[str, Any]) -> bool:
    """Whether this is the config that a run directory has."""
    return bool(scrub(_saved(run)) == scrub(config))


def load_config(run: Path) -> dict[str, Any]:
    """The config of a run directory, as its last run resolved it.

    Raises:
        UserError: it can't be read.
    """
    path = contained(run, run / CONFIG)
    try:
        config = read_yaml(read_text(path))
        check_values(config)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or " ".join(str(error).split())
        raise UserError(f"{path} can't be read: {reason}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} holds no config")
    return config


def _outcome(folder: Path, extras: Sequence[str]) -> str:
    record = read_record(folder)
    if record is not None and record.get("status") in ("failed", "stopped"):
        return str(record["status"])
    return "done" if is_done(folder, extras, record) else "missing"


def _saved(run: Path) -> Mapping[str, Any]:
    """The config of the run that was here; empty where there is none that can be read."""
    try:
        return load_config(run)
    except UserError:
        return {}


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{key}.{name}".lstrip("."))
    elif value not in (None, {}):
        yield key, registry.short_name(str(value)) if key.endswith(".class_path") else value


def _tells_samples_apart(key: str) -> bool:
    if not key.startswith(("model.", "data.", "method")) or key.startswith(_OTHER_ROWS):
        return False
    return key.rpartition(".")[2] not in _EXECUTION


def _short(value: Any) -> str:
    text = "not set" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
