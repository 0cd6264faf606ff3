"""Build the run that makes a stored sample again, and compare its sample with the stored one."""

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
    """Build the run of a file that carries a config; download the weights that it names only if the user agrees.

    The file may come from others, who chose the names of the weights.

    Args:
        file: a sample's file.
        arguments: keys of configs, as `--key=value`.
        modules: whose classes configs may name.
        download: whether the user has agreed; otherwise a terminal asks.

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
        lacks = f"{file} names weights that are not on this machine: {', '.join(dict.fromkeys(missing))}"
        if not _agrees(f"its: {lacks}. Download them? [y/N]"):
            raise UserError(f"{lacks}. To download them: --download")
    return build([file], arguments, modules)


def changes(record: Mapping[str, Any], cli: PredictCLI) -> str:
    """Describe how the one sample of a run differs from that of a record; empty if they are the same."""
    (spec,) = cli.specs
    if spec.id == record["id"]:
        return ""
    settings = {"guidance_scale": dict(spec.guidance_scale), **spec.definition["settings"]}
    before = _comparable({"settings": record.get("settings"), "weights": record["weights"]})
    now = _comparable(scrub({"settings": settings, "weights": cli.model.provenance}))
    named = "; ".join(differences(before, now))
    return f"{record['id']} -> {spec.id}: {named or 'prompts, scales, seed or other parts of the id differ'}."


def _agrees(question: str) -> bool:
    """Ask on the terminal; without a terminal or an answer, return False."""
    if not (sys.stdin and sys.stdin.isatty()):
        return False
    sys.stderr.write(f"{visible(question)}\n")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _comparable(parts: Any) -> Any:
    """Leave out what ids do not depend on: the machine, and the places of weights whose content is known."""
    plain = json.loads(json.dumps(parts))
    if isinstance(plain["settings"], dict):
        plain["settings"] = {k: v for k, v in plain["settings"].items() if k not in ("precision", "device")}
    plain["weights"] = weights_identity(plain["weights"])
    return plain
