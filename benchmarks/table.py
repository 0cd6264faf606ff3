"""Write the tables of docs/performance.md from the committed results: `python benchmarks/table.py`.

`--check` writes nothing; its exit status is 1 if the document differs from the results.
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
    """Return the tables of the document as Markdown, by name."""
    results = {name: _read(name) for name in SCRIPTS}
    jobs = results["plain_command"]["parts"]
    outside = {f"{job} | {name}": value for job, part in jobs.items() for name, value in part["figures"].items()}
    return {
        "goals": _goals(results),
        "compare": _pivot(_figures(results["gpu"], "compare"), [c.name for c in plan.compared(tiny=False)], COMPARED),
        "levers": _pivot(_figures(results["gpu"], "levers"), [c.name for c in plan.ladder()], LADDER),
        "plain_command": _pivot(outside, list(JOBS), FROM_OUTSIDE),
        "cpu": _all_figures(results["cpu"]),
        "machines": _machines(results),
    }


def fill(document: str) -> str:
    """Replace the tables of the document.

    Raises:
        ValueError: the document lacks a place for a table.
    """
    for name, table in tables().items():
        place = re.compile(rf"(<!-- {name}: made by benchmarks/table.py -->\n).*?(<!-- end -->)", re.DOTALL)
        document, count = place.subn(lambda match, table=table: f"{match[1]}{table}\n{match[2]}", document)
        if count != 1:
            raise ValueError(f"{DOCUMENT.name} has {count} places for the table {name}; expected one")
    return document


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    old = DOCUMENT.read_text(encoding="utf-8")
    new = fill(old)
    if not options.check:
        DOCUMENT.write_text(new, encoding="utf-8")
    elif new != old:
        print(f"{DOCUMENT} differs from the results; run python benchmarks/table.py", file=sys.stderr)
        return 1
    return 0


def _read(name: str) -> dict[str, Any]:
    path = FOLDER / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"parts": {}}


def _figures(results: dict[str, Any], part: str) -> dict[str, Any]:
    return results["parts"].get(part, {}).get("figures", {})


def _goals(results: dict[str, dict[str, Any]]) -> str:
    lines = []
    for goal in GOALS:
        script, part = goal.where.split()
        figures = _figures(results[script], part)
        measured = " / ".join(dict.fromkeys(show(figures.get(_best(key, figures))) for key in goal.figures))
        columns = (measured, "") if script == "cpu" else ("", measured)
        lines.append((goal.what, goal.goal, goal.stretch, *columns, f"`{script}.py {part}`"))
    return _markdown(("figure", "goal", "stretch", "CPU", "GPU", "measured by"), lines)


def _best(key: str, figures: dict[str, Any]) -> str:
    """Replace BEST by the variant of `its` with the most samples per second."""
    speeds = {
        name.partition(" | ")[0]: value["value"]
        for name, value in figures.items()
        if re.match(r"ours, batch \d+ \| samples/s", name) and not isinstance(value, str)
    }
    return key.replace("BEST", max(speeds, key=speeds.__getitem__)) if speeds else key


def _pivot(figures: dict[str, Any], names: Sequence[str], metrics: Sequence[str]) -> str:
    """Format a table with a row for each variant and a column for each measured metric."""
    metrics = [metric for metric in metrics if any(f"{name} | {metric}" in figures for name in names)]
    if not metrics:
        return _markdown(("", "all figures"), [(name, NOT_MEASURED) for name in names])
    lines = []
    for name in names:
        row = [figures.get(f"{name} | {metric}", "") for metric in metrics]
        lines.append((name, *(show(value, spread=False) for value in (row if any(row) else [None, *row[1:]]))))
    return _markdown(("", *metrics), lines)


def _all_figures(results: dict[str, Any]) -> str:
    parts = results["parts"].items()
    lines = [(part, name, show(value)) for part, content in parts for name, value in content["figures"].items()]
    return _markdown(("part", "figure", "median (smallest to largest)"), lines or [("", "", NOT_MEASURED)])


def _machines(results: dict[str, dict[str, Any]]) -> str:
    lines = []
    for name, content in results.items():
        if not content["parts"]:
            lines.append((f"`{name}.py`", NOT_MEASURED, "", ""))
            continue
        machine = ", ".join(f"{key} {value}" for key, value in content["machine"].items())
        versions = ", ".join(f"{package} {number}" for package, number in content["versions"].items())
        took = f"{sum(part['took_s'] for part in content['parts'].values()) / 60:.0f} min"
        if "rounds" in content["settings"]:
            took += f", {content['settings']['rounds']} rounds"
        lines.append((f"`{name}.py`", machine, versions, took))
    return _markdown(("script", "machine", "versions", "took"), lines)


def show(value: Any, *, spread: bool = True) -> str:
    """Format a figure with its spread, or the reason for its absence."""
    if value is None or isinstance(value, str):
        return NOT_MEASURED if value is None or value.startswith("not begun") else value
    unit = value["unit"] if value["unit"] in ("", "x") else f" {value['unit']}"
    ends = f" ({value['low']:g} to {value['high']:g})" if spread and value["low"] != value["high"] else ""
    return f"{value['value']:g}{unit}{ends}"


def _markdown(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
