"""Results files: one JSON file for each script, with machine, versions and the figures of each part."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from measuring import Figure, machine, versions
from table import show


class Results:
    """Results of a script.

    New figures of a part replace its old ones. Other parts are kept if machine, versions and settings are equal.
    """

    def __init__(self, path: Path | None, *, device: torch.device, settings: dict[str, Any]) -> None:
        """Args:
        path: JSON file; None to print only.
        device: the measured device.
        settings: settings of the run.
        """
        self.path = path
        self.content: dict[str, Any] = {"machine": machine(device), "versions": versions(), "settings": settings}
        self.content["parts"] = self._old_parts()

    def add(self, part: str, figures: dict[str, Figure | str], *, seconds: float) -> None:
        """Write and print the figures of a part. A text in place of a figure is the reason for its absence."""
        self.keep(part, figures, seconds=seconds)
        self.show(part)

    def keep(self, part: str, figures: dict[str, Figure | str], *, seconds: float) -> None:
        """Write the figures of a part, atomically."""
        self.content["parts"][part] = {"took_s": round(seconds, 1), "figures": dict(figures)}
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps(self.content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            new.replace(self.path)

    def show(self, part: str) -> None:
        """Print the figures of a part."""
        for name, value in self.content["parts"].get(part, {}).get("figures", {}).items():
            print(f"  {name:58} {show(value)}", flush=True)

    def _old_parts(self) -> dict[str, Any]:
        if self.path is None or not self.path.is_file():
            return {}
        old = json.loads(self.path.read_text(encoding="utf-8"))
        if changed := [key for key in self.content if old.get(key) != self.content[key]]:
            print(f"{self.path}: {', '.join(changed)} changed, so the old figures are dropped", file=sys.stderr)
            return {}
        return old["parts"]
