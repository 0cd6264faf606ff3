"""Create and read the config that reproduces one sample, stored in its record and in the metadata of its files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from its.errors import UserError
from its.media.metadata import read_metadata
from its.specs.spec import SampleSpec

KEYS = {"method": str, "model": dict, "data": dict, "trainer": dict, "save": list}
"""Allowed keys of such a config, and their types."""


def sample_config(spec: SampleSpec, resolved: Mapping[str, Any], *, precision: str) -> dict[str, Any]:
    """Reduce the config of a run to that of one sample, without settings of the machine.

    Args:
        spec: spec of the sample.
        resolved: config of the run.
        precision: Lightning's name of the sample's precision.
    """
    by_expert = {key: dict(getattr(spec, key)) for key in ("negative_prompts", "guidance_scale")}
    files = {name: {file.kind: file.path, "prompt": file.words} for name, file in spec.files.items()}
    own = spec.material.row() | ({} if spec.transition is None else {"interpolate": spec.transition.row()})
    data: dict[str, Any] = {"prompts": [{**spec.prompts, **files, "seed": spec.seed, **by_expert, **own}]}
    if spec.settings:
        data["sweep"] = {key: [value] for key, value in spec.settings.items()}
    return {
        "method": resolved["method"],
        "model": {**resolved["model"], "fallback": None},  # fallback weights would change the sample
        "data": data,
        "trainer": {"precision": precision},
        "save": list(resolved["save"]),
    }


def read_config(path: Path) -> dict[str, Any]:
    """Read the config from the metadata of a sample's file. `its.config.compose` checks its values.

    Raises:
        UserError: the file has no metadata, or its config is not of the form that `sample_config` returns.
    """
    config = read_metadata(path)["config"]
    if not isinstance(config, dict) or not KEYS.keys() >= config.keys() >= {"model", "data"}:
        raise UserError(f"{path}: expected metadata with a config of model and data; allowed keys: {', '.join(KEYS)}")
    for key, value in config.items():
        if not isinstance(value, KEYS[key]):
            raise UserError(f"{path}: {key} in the metadata is {value!r:.80}; expected a {KEYS[key].__name__}")
    rows = config["data"].get("prompts")
    if not isinstance(rows, list) or len(rows) != 1 or not config["data"].keys() <= {"prompts", "sweep"}:
        raise UserError(f"{path}: data in the metadata is {config['data']!r:.80}; expected one row of prompts")
    if not config.get("trainer", {}).keys() <= {"precision"}:
        raise UserError(f"{path}: trainer in the metadata has other keys than precision, which are not allowed here")
    return config


def differences(before: Any, now: Any, key: str = "") -> list[str]:
    """List the differences of two nested mappings, as `key: before -> now`."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        keys = list(dict.fromkeys((*before, *now)))
        return [line for k in keys for line in differences(before.get(k), now.get(k), f"{key}.{k}".lstrip("."))]
    return [] if before == now else [f"{key}: {before!r:.80} -> {now!r:.80}"]
