"""Make the tables of docs/performance.md from the committed results: `python benchmarks/table.py`.

`--check` writes nothing; its exit status is 1 if the document says something else than the results.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from goals import GOALS

FOLDER = Path(__file__).parent / "results"
DOCUMENT = Path(__file__).parents[1] / "docs" / "performance.md"
NOT_MEASURED = "not measured"


METRICS = (
    "samples/s", "ms a step", "over the authors'", "over the informed user's", "over eager", "over the line before",
    "share of the floor", "memory", "first batch", "host waits in the loop", "launches a step", "error",
)  # fmt: skip
COMPARED = ("authors", "informed user", *(f"ours, batch {b}" for b in (1, 4, 8, 16, 32)))
COMPARED += ("ours, 25 steps, batch 1", "ours, 25 steps, batch 16")
LADDER = (
    "eager", "+ CUDA graph", "+ channels_last", "+ compile", "+ attention by timing", "+ two streams",
    "channels_last alone", "compile alone", "compile and channels_last, no graph",
)  # fmt: skip


def tables() -> dict[str, str]:
    """Name of each table in the document -> Markdown."""
    results = {name: _read(name) for name in ("cpu", "gpu")}
    return {
        "goals": _goals(results),
        "compare": _pivot(_figures(results["gpu"], "compare"), COMPARED, METRICS[:4] + METRICS[6:]),
        "levers": _pivot(_figures(results["gpu"], "levers"), LADDER, METRICS[:2] + METRICS[4:6] + METRICS[7:]),
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
        n.partition(" | ")[0]: f["value"] for n, f in figures.items() if re.match(r"ours, batch \d+ \| samples/s", n)
    }
    return key.replace("BEST", max(speeds, key=speeds.__getitem__)) if speeds else key


def _pivot(figures: dict[str, Any], names: tuple[str, ...], metrics: tuple[str, ...]) -> str:
    if not figures:
        return _markdown(("", "all figures"), [(name, NOT_MEASURED) for name in names])
    lines = [(name, *(show(figures.get(f"{name} | {metric}"), spread=False) for metric in metrics)) for name in names]
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
        lines.append((f"`{name}.py`", about, versions, f"{minutes:.0f} min, {found['settings']['rounds']} rounds"))
    return _markdown(("script", "machine", "versions", "took"), lines)


def show(found: Any, *, spread: bool = True) -> str:
    """A figure with its spread; a text says itself why there is no figure."""
    if found is None:
        return NOT_MEASURED
    if isinstance(found, str):
        return found
    unit = found["unit"] if found["unit"] in ("", "x") else f" {found['unit']}"
    ends = f" ({found['low']:g} to {found['high']:g})" if spread and found["low"] != found["high"] else ""
    return f"{found['value']:g}{unit}{ends}"


def _markdown(head: tuple[str, ...], lines: list[tuple[str, ...]]) -> str:
    rows = [head, ("---",) * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)


if __name__ == "__main__":
    sys.exit(main())
