"""Rebuild the run of a stored sample, and compare the new sample's spec with the stored one."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from its.engine.build import PredictCLI, build
from its.errors import UserError
from its.output import visible
from its.privacy import scrub
from its.runs.replay import differences
from its.weights.hub import local_only
from its.weights.source import weights_identity


def build_again(file: Path, arguments: Sequence[str], modules: Sequence[str], *, download: bool) -> PredictCLI:
    """Build the run of a sample's file from the config in its metadata.

    Weights are downloaded only with the user's consent, since the file, which names them, may be untrusted.

    Args:
        file: file of a sample.
        arguments: config keys as `--key=value`.
        modules: modules whose classes configs may name.
        download: download without a prompt on the terminal.

    Raises:
        UserError: the config is wrong, or weights are not on this machine and the user does not agree.
    """
    if not download:
        with local_only() as missing:
            try:
                return build([file], arguments, modules)
            except UserError:
                if not missing:
                    raise
        reason = f"{file} names weights that are not on this machine: {', '.join(dict.fromkeys(missing))}"
        if not _confirm(f"its: {reason}. Download them? [y/N]"):
            raise UserError(f"{reason}. To download them: --download")
    return build([file], arguments, modules)


def changes(record: Mapping[str, Any], cli: PredictCLI) -> str:
    """Describe how the single sample of a run differs from a record; empty if they are the same."""
    (spec,) = cli.specs
    if spec.id == record["id"]:
        return ""
    settings = {"guidance_scale": dict(spec.guidance_scale), **spec.definition["settings"]}
    before = _comparable({"settings": record.get("settings"), "weights": record["weights"]})
    now = _comparable(scrub({"settings": settings, "weights": cli.model.provenance}))
    changed = "; ".join(differences(before, now))
    return f"{record['id']} -> {spec.id}: {changed or 'prompts, scales, seed or other parts of the id differ'}."


def _confirm(question: str) -> bool:
    """Prompt on the terminal; without a terminal or an answer, return False."""
    if not (sys.stdin and sys.stdin.isatty()):
        return False
    sys.stderr.write(f"{visible(question)}\n")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _comparable(values: Any) -> Any:
    """Drop values that ids do not depend on: the device, and the paths of weights whose content is known."""
    plain = json.loads(json.dumps(values))
    if isinstance(plain["settings"], dict):
        plain["settings"] = {k: v for k, v in plain["settings"].items() if k not in ("precision", "device")}
    plain["weights"] = weights_identity(plain["weights"])
    return plain
