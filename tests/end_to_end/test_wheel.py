"""The package as users install it: a wheel in a fresh environment, run in an empty directory."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("its", "plugins", "configs", "pyproject.toml", "LICENSE", "README.md")


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A fresh environment with the wheel; its dependencies are those of the environment that runs the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [*pip, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([*build, str(source)], check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    venv.create(folder / "environment", with_pip=False)
    python = folder / "environment" / "bin" / "python"
    subprocess.run([*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)], check=True)
    site = subprocess.check_output([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True)
    (Path(site.strip()) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder / "environment" / "bin" / "its"


def run(its, folder, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([its, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_of_the_help_makes_a_sample(installed, tmp_path):
    assert "its predict --config castle_bell" in run(installed, tmp_path, "--help")
    small = ["--model.steps=2", "--model.canvas=[256,256]", "--data.seeds=[1]"]
    run(installed, tmp_path, "predict", "--config", "castle_bell", *small)
    (record,) = tmp_path.glob("runs/castle_bell/samples/*/sample.json")
    found = json.loads(record.read_text())
    assert found["status"] == "ok"
    assert all(weights["embedded"] for weights in found["weights"].values() if weights)


def test_configs_are_listed_and_copied(installed, tmp_path):
    listed = run(installed, tmp_path, "configs")
    assert {"castle_bell", "models/mini", "paper/table1"} <= {line.split()[0] for line in listed.splitlines() if line}
    run(installed, tmp_path, "configs", "cp", "castle_bell", "mine.yaml")
    assert (tmp_path / "mine.yaml").read_text() == (ROOT / "configs" / "castle_bell.yaml").read_text()


def test_it_is_the_wheel_that_runs(installed, tmp_path):
    code = "import its, its.media.packaged as p; print(its.__file__); print(*p.packaged_files().values(), sep='\\n')"
    printed = subprocess.check_output([installed.parent / "python", "-c", code], text=True, cwd=tmp_path).splitlines()
    assert all(Path(path).is_relative_to(installed.parents[1]) for path in printed)
