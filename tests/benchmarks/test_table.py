"""The tables of docs/performance.md agree with the committed results."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def table(root, *options):
    command = [sys.executable, "benchmarks/table.py", *options]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks")
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "performance.md", tmp_path / "docs")
    return tmp_path


def test_the_document_agrees_with_the_results():
    done = table(ROOT, "--check")
    assert done.returncode == 0, done.stderr


def test_other_results_change_the_document(copy):
    figures = {"Lightning, a batch": {"value": 123.25, "low": 99.5, "high": 150.0, "unit": "ms"}}
    results = {
        "machine": {"cpu": "abacus"},
        "versions": {"python": "3"},
        "settings": {"rounds": 7},
        "parts": {"lightning": {"took_s": 120.0, "figures": figures}},
    }
    (copy / "benchmarks" / "results" / "cpu.json").write_text(json.dumps(results), encoding="utf-8")
    checked = table(copy, "--check")
    assert checked.returncode == 1
    assert "differs from the results; run python benchmarks/table.py" in checked.stderr
    assert table(copy).returncode == 0
    document = (copy / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "| 0.5 ms |  | 123.25 ms (99.5 to 150) |  | `cpu.py lightning` |" in document
    assert "cpu abacus | python 3 | 2 min, 7 rounds |" in document
    assert table(copy, "--check").returncode == 0


def test_missing_results_are_shown_as_not_measured(copy):
    for path in (copy / "benchmarks" / "results").glob("[cg]pu.json"):
        path.unlink()
    assert table(copy).returncode == 0
    document = (copy / "docs" / "performance.md").read_text(encoding="utf-8")
    goals = document.partition("## Goals")[2].partition("Empty cells")[0]
    lines = [line for line in goals.splitlines() if "`gpu.py" in line or "`cpu.py" in line]
    assert len(lines) > 15
    assert all("not measured" in line for line in lines)


def test_the_goals_name_figures_that_the_scripts_measure():
    """A goal with a misspelt figure would always show "not measured"."""
    import plan
    from goals import GOALS

    variants = ["BEST", *(candidate.name for candidate in plan.compared(tiny=False))]
    for key in [key for goal in GOALS if goal.where == "gpu compare" for key in goal.figures if " | " in key]:
        assert key.split(" | ")[0] in variants
    for script in ("cpu", "gpu"):
        path = ROOT / "benchmarks" / "results" / f"{script}.json"
        parts = json.loads(path.read_text(encoding="utf-8"))["parts"] if path.is_file() else {}
        for goal in GOALS:
            of, part = goal.where.split()
            if of == script and part in parts:
                figures = parts[part]["figures"]
                if any(str(found).startswith("not begun") for found in figures.values()):
                    continue  # a run with a time limit, which lacks some variants
                keys = [key for key in goal.figures if not key.startswith("BEST")]
                assert [key for key in keys if key not in figures] == []
