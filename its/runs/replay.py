"""The config that makes one sample again, as its record and its files carry it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from its.errors import UserError
from its.media.metadata import read_metadata
from its.specs.spec import SampleSpec

KEYS = {"method": str, "model": dict, "data": dict, "trainer": dict, "save": list}
"""What such a config holds, and as what."""


def config_of(row: SampleSpec, resolved: Mapping[str, Any], *, precision: str) -> dict[str, Any]:
    """The config of a run with one row -> that row's own, small and without anything of the machine.

    Args:
        row: of the sample.
        resolved: the whole config of the run.
        precision: in which the sample was made, as Lightning names it.
    """
    own = {key: dict(getattr(row, key)) for key in ("negative_prompts", "guidance_scale")}
    files = {name: {file.kind: file.path, "prompt": file.words} for name, file in row.files.items()}
    data: dict[str, Any] = {"prompts": [{**row.prompts, **files, "seed": row.seed, **own}]}
    if row.settings:
        data["sweep"] = {key: [value] for key, value in row.settings.items()}
    return {
        "method": resolved["method"],
        # The weights are those that were taken; others in their place would make another sample.
        "model": {**resolved["model"], "fallback": None},
        "data": data,
        "trainer": {"precision": precision},
        "save": list(resolved["save"]),
    }


def read_config(path: Path) -> dict[str, Any]:
    """The config that a file of ours carries, for `its.config.compose` to compose and to check as it checks any file.

    Raises:
        UserError: it carries none, or one that is not of this form.
    """
    config = read_metadata(path)["config"]
    if not isinstance(config, dict) or not KEYS.keys() >= config.keys() >= {"model", "data"}:
        raise UserError(f"{path}: its metadata has no config of ours; expected {', '.join(KEYS)}")
    for key, value in config.items():
        if not isinstance(value, KEYS[key]):
            raise UserError(f"{path}: {key} in its metadata is {value!r:.80}; expected a {KEYS[key].__name__}")
    rows = config["data"].get("prompts")
    if not isinstance(rows, list) or len(rows) != 1 or not config["data"].keys() <= {"prompts", "sweep"}:
        raise UserError(f"{path}: data in its metadata is {config['data']!r:.80}; expected one row of prompts")
    if not config.get("trainer", {}).keys() <= {"precision"}:
        raise UserError(f"{path}: trainer in its metadata may say the precision alone")
    return config


def differences(before: Any, now: Any, key: str = "") -> list[str]:
    """What differs between two nested mappings, as `key: before -> now`."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = list(dict.fromkeys((*before, *now)))
        return [d for k in keys for d in differences(before.get(k), now.get(k), f"{key}.{k}".lstrip("."))]
    return [] if before == now else [f"{key}: {before!r:.80} -> {now!r:.80}"]
