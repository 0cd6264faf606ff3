"""The GPU's benchmark runs to its end, on small networks and without a GPU."""

import json
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
SCRIPT = ROOT / "benchmarks" / "gpu.py"


def test_runs_to_its_end_at_tiny_size(tmp_path, forks):
    out = tmp_path / "gpu.json"
    small = ("--tiny", "--no-compile", "--rounds", "1", "--dtype", "float32")
    forks.run([SCRIPT, *small, "--out", out], NO_GPU, program="script")
    results = json.loads(out.read_text(encoding="utf-8"))
    assert list(results["parts"]) == ["ceilings", "compare", "levers", "files"]
    assert results["settings"]["tiny"]
    compared = results["parts"]["compare"]["figures"]
    for name in ("authors", "informed user", "ours, batch 1", "ours, batch 2"):
        assert compared[f"{name} | samples/s"]["value"] > 0
        assert 0 <= compared[f"{name} | error"]["value"] < 1e-4
        assert compared[f"{name} | memory"] == "needs a GPU"
    # Written independently of ours, and yet the same up to rounding: what is compared does the same work.
    assert compared["authors, float32 | error"]["value"] < 1e-4
    levers = results["parts"]["levers"]["figures"]
    assert levers["channels_last alone | samples/s"]["value"] > 0
    assert levers["compile alone | samples/s"] == "left out (--no-compile)"
    assert levers["+ CUDA graph | samples/s"] == "needs a GPU"


def test_without_a_gpu_it_says_so(forks):
    assert forks.wait(forks.start([SCRIPT], NO_GPU, program="script")) == [2]
    assert "there is no CUDA device" in forks.log.read_text()


@pytest.fixture
def bring():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import bring

        yield bring
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))


def test_wheels_are_imported_from_their_folder(bring, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    with zipfile.ZipFile(tmp_path / "brought-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("brought/__init__.py", "answer = 42")
        wheel.writestr("brought-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    bring.wheels(tmp_path)
    import brought

    assert brought.answer == 42
    from importlib.metadata import version

    assert version("brought") == "1.0"


def test_a_folder_without_wheels_is_refused(bring, tmp_path):
    with pytest.raises(SystemExit, match="there is no .whl in it"):
        bring.wheels(tmp_path)
