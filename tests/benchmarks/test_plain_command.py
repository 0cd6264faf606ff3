"""Measure `its predict` from outside, in a separate process."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "plain_command.py"


@pytest.mark.slow
def test_jobs_are_measured(tmp_path, forks):
    out = tmp_path / "out.json"
    small = ("--tiny", "--dtype", "float32", "--runs", tmp_path, "--out", out)
    forks.run([SCRIPT, *small, "--jobs", "fast", "plain"], {"CUDA_VISIBLE_DEVICES": ""}, program="script")
    parts = json.loads(out.read_text(encoding="utf-8"))["parts"]
    assert parts["fast"]["figures"] == {"exit": "needs a GPU"}
    plain = parts["plain"]["figures"]
    assert plain["samples"]["value"] == 3
    assert 0 < plain["start to first sample"]["value"] < plain["start to end"]["value"]
    assert plain["samples/s after the first batch"]["value"] > 0
    assert plain["first batch: denoise"]["value"] > 0
    assert plain["last batch: batch_size"]["value"] in (1, 2)
    assert (plain["precision"], plain["device"]) == ("32-true", "cpu")
    assert [path for path in tmp_path.iterdir() if path != out] == [], "runs are removed"


@pytest.mark.parametrize(
    ("code", "timeout", "expected"),
    [
        ("import sys; sys.exit('config: no such key')", None, "failed: config: no such key"),
        ("import time; time.sleep(60)", 0.3, "stopped after 0 s"),
    ],
)
def test_a_process_that_fails_or_takes_too_long_has_no_speed(tmp_path, code, timeout, expected):
    from plain_command import figures_of
    from processes import run

    done = run([sys.executable, "-c", code], tmp_path, timeout=timeout)
    figures = figures_of(done, (), 1)
    assert figures["exit"] == expected
    assert not any(name.startswith("samples") for name in figures)
    assert done.seconds < 30
