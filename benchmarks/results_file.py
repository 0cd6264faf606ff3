"""The committed results: one JSON file for each script, with machine and versions, its parts each measured alone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from measuring import Figure, machine, versions
from table import show


class Results:
    """What a script has measured so far.

    Parts that are measured again replace their old figures; the others stay, if machine and versions are the same.
    """

    def __init__(self, path: Path | None, *, device: torch.device, settings: dict[str, Any]) -> None:
        """Args:
        path: of the JSON file; None to print only.
        device: that is measured.
        settings: of the run; figures of other settings don't mix with these.
        """
        self.path = path
        self.content: dict[str, Any] = {"machine": machine(device), "versions": versions(), "settings": settings}
        self.content["parts"] = self._old_parts()

    def add(self, part: str, figures: dict[str, Figure | str], *, seconds: float) -> None:
        """Keep and print what one part measured. A text in place of a figure says why there is none."""
        self.keep(part, figures, seconds=seconds)
        self.show(part)

    def keep(self, part: str, figures: dict[str, Figure | str], *, seconds: float) -> None:
        """Write the figures of a part; the file is never incomplete."""
        self.content["parts"][part] = {"took_s": round(seconds, 1), "figures": dict(figures)}
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = self.path.with_suffix(".new")
            new.write_text(json.dumps(self.content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            new.replace(self.path)

    def show(self, part: str) -> None:
        """Print the figures of a part."""
        for name, found in self.content["parts"].get(part, {}).get("figures", {}).items():
            print(f"  {name:58} {show(found)}", flush=True)

    def _old_parts(self) -> dict[str, Any]:
        if self.path is None or not self.path.is_file():
            return {}
        old = json.loads(self.path.read_text(encoding="utf-8"))
        changed = [key for key in self.content if old.get(key) != self.content[key]]
        if changed:
            print(f"{self.path} was measured on other {', '.join(changed)}: beginning anew", file=sys.stderr)
            return {}
        return old["parts"]
