"""Make the tables of docs/performance.md from the committed results: `python benchmarks/table.py`.

`--check` writes nothing; its exit status is 1 if the document says something else than the results.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import plan
from goals import GOALS
from plain_command import JOBS

FOLDER = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
SCRIPTS = ("cpu", "gpu", "plain_command")
NOT_MEASURED = "not measured"

RESULTS = ("samples/s", "ms a step", "share of the floor", "memory", "load", "first batch", "graphs", "error")
COUNTED = ("host waits in the loop", "launches a step")
COMPARED = ("over the authors'", "over the informed user's", *RESULTS, *COUNTED)
LADDER = ("over eager", "over the line before", *RESULTS, *COUNTED)
FROM_OUTSIDE = (
    "start to first sample", "start to end", "samples/s, start to end", "samples/s after the first batch", "samples",
    "peak memory of the host", "most memory in use on the GPU, sampled", "exit",
)  # fmt: skip


def tables() -> dict[str, str]:
    """Name of each table in the document -> Markdown."""
    results = {name: _read(name) for name in SCRIPTS}
    outside = {
        f"{job} | {name}": found
        for job in ([] if results["plain_command"] is None else results["plain_command"]["parts"])
        for name, found in _figures(results["plain_command"], job).items()
    }
    return {
        "goals": _goals(results),
        "compare": _pivot(_figures(results["gpu"], "compare"), [c.name for c in plan.compared(tiny=False)], COMPARED),
        "levers": _pivot(_figures(results["gpu"], "levers"), [c.name for c in plan.ladder()], LADDER),
        "plain_command": _pivot(outside, list(JOBS), FROM_OUTSIDE),
        "cpu": _all_figures(results["cpu"]),
        "machines": _machines(results),
    }


def filled(document: str) -> str:
    """The document with its tables made anew.

    Raises:
        ValueError: it has no place for one of them.
    """
    for name, table in tables().items():
        place = re.compile(rf"(<!-- {name}: made by benchmarks/table.py -->\n).*?(<!-- end -->)", re.DOTALL)
        document, count = place.subn(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", document)
        if count != 1:
            raise ValueError(f"expected one place for the table {name}, found {count}")
    return document


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    written = DOCUMENT.read_text(encoding="utf-8")
    made = filled(written)
    if options.check:
        if made != written:
            print(f"{DOCUMENT} differs from the results: python benchmarks/table.py", file=sys.stderr)
        return int(made != written)
    DOCUMENT.write_text(made, encoding="utf-8")
    return 0


def _read(name: str) -> dict[str, Any] | None:
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _figures(results: dict[str, Any] | None, part: str) -> dict[str, Any]:
    return {} if results is None else results["parts"].get(part, {}).get("figures", {})


def _goals(results: dict[str, dict[str, Any] | None]) -> str:
    lines = []
    for goal in GOALS:
        script, part = goal.where.split()
        figures = _figures(results[script], part)
        found = [show(figures.get(_best(key, figures))) for key in goal.figures]
        measured = " / ".join(dict.fromkeys(found))
        columns = (measured, "") if script == "cpu" else ("", measured)
        lines.append((goal.what, goal.goal, goal.stretch, *columns, f"`{script}.py {part}`"))
    return _markdown(("figure", "goal", "stretch", "CPU", "GPU", "measured by"), lines)


def _best(key: str, figures: dict[str, Any]) -> str:
    """In place of BEST, the batch that makes most samples a second."""
    speeds = {
        name.partition(" | ")[0]: found["value"]
        for name, found in figures.items()
        if re.match(r"ours, batch \d+ \| samples/s", name) and not isinstance(found, str)
    }
    return key.replace("BEST", max(speeds, key=speeds.__getitem__)) if speeds else key


def _pivot(figures: dict[str, Any], names: Sequence[str], metrics: Sequence[str]) -> str:
    """A line for each variant, a column for each metric that any of them has."""
    metrics = [metric for metric in metrics if any(f"{name} | {metric}" in figures for name in names)]
    if not metrics:
        return _markdown(("", "all figures"), [(name, NOT_MEASURED) for name in names])
    lines = []
    for name in names:
        found = [figures.get(f"{name} | {metric}", "") for metric in metrics]
        lines.append(
            (name, *(show(one, spread=False) for one in (found if any(found) else [NOT_MEASURED, *found[1:]])))
        )
    return _markdown(("", *metrics), lines)


def _all_figures(results: dict[str, Any] | None) -> str:
    parts = {} if results is None else results["parts"]
    lines = [(part, name, show(found)) for part, p in parts.items() for name, found in p["figures"].items()]
    return _markdown(("part", "figure", "median (smallest to largest)"), lines or [("", "", NOT_MEASURED)])


def _machines(results: dict[str, dict[str, Any] | None]) -> str:
    lines = []
    for name, found in results.items():
        if found is None:
            lines.append((f"`{name}.py`", NOT_MEASURED, "", ""))
            continue
        about = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
        versions = ", ".join(f"{package} {number}" for package, number in found["versions"].items())
        minutes = sum(part["took_s"] for part in found["parts"].values()) / 60
        lines.append((f"`{name}.py`", about, versions, f"{minutes:.0f} min{_rounds(found)}"))
    return _markdown(("script", "machine", "versions", "took"), lines)


def _rounds(results: dict[str, Any]) -> str:
    rounds = results["settings"].get("rounds")
    return "" if rounds is None else f", {rounds} rounds"


def show(found: Any, *, spread: bool = True) -> str:
    """A figure with its spread; a text says itself why there is no figure."""
    if found is None:
        return NOT_MEASURED
    if isinstance(found, str):
        return NOT_MEASURED if found.startswith("not begun") else found
    unit = found["unit"] if found["unit"] in ("", "x") else f" {found['unit']}"
    ends = f" ({found['low']:g} to {found['high']:g})" if spread and found["low"] != found["high"] else ""
    return f"{found['value']:g}{unit}{ends}"


def _markdown(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
