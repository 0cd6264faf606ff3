"""The code in the documents runs, as it is written there."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from its import registry

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "writing-a-plugin.md").read_text(encoding="utf-8")
PYTHON = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def files_of(document):
    """Name -> content, of the code blocks that follow a line such as `name.py`:"""
    found = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", document, re.MULTILINE | re.DOTALL)
    assert len(dict(found)) == len(found)
    return dict(found)


def blocks_of(document, language):
    return re.findall(rf"^```{language}\n(.*?)^```", document, re.MULTILINE | re.DOTALL)


def run(command, folder, **environment):
    """Run a command of the documents in a folder, with the Python that runs the tests."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    quiet = {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "PATH": path}
    done = subprocess.run(
        command, cwd=folder, shell=True, capture_output=True, text=True, env={**os.environ, **quiet, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def guide(tmp_path_factory):
    """A folder with the files of the guide."""
    folder = tmp_path_factory.mktemp("guide")
    for name, content in files_of(GUIDE).items():
        (folder / name).write_text(content, encoding="utf-8")
    return folder


def test_the_guide_has_the_files_that_it_speaks_of(guide):
    assert {path.name for path in guide.iterdir()} == {
        "stripes.py",
        "stripes.yaml",
        "test_stripes.py",
        "conv.py",
        "test_conv.py",
        "palindrome.py",
        "pyproject.toml",
    }


def test_the_guides_method_makes_a_sample(guide, forks):
    _, command = blocks_of(GUIDE, "sh")
    _, *arguments = shlex.split(command)
    forks.run([*arguments, "--model.canvas=[256,128]", "--model.steps=5", "--save=[latents]"], cwd=guide)
    (record,) = (guide / "runs" / "palindrome" / "samples").glob("*/sample.json")
    found = json.loads(record.read_text(encoding="utf-8"))
    assert (found["status"], found["settings"]["method"]) == ("ok", "palindrome")
    assert (record.parent / "latents.safetensors").is_file()


def test_the_command_of_the_guide_draws_the_documented_picture(guide, forks):
    import numpy as np
    from PIL import Image

    command, _ = blocks_of(GUIDE, "sh")
    assert command.strip() == files_of(GUIDE)["stripes.yaml"].partition("\n")[0].removeprefix("# ")
    program, *arguments = shlex.split(command)
    assert program == "its"
    forks.run([*arguments, "--model.trim=0"], cwd=guide)
    (record,) = (guide / "runs" / "stripes" / "samples").glob("*/sample.json")
    assert json.loads(record.read_text(encoding="utf-8"))["status"] == "ok"
    assert (record.parent / "audio.wav").is_file()
    bright = np.asarray(Image.open(record.parent / "spectrogram.png")) > 192
    for lines, spots in ((bright.any(0), 8), (bright.any(1), 3)):
        assert np.sum(np.diff(lines.astype(int), prepend=0) == 1) == spots


def test_the_guides_tests_pass(guide):
    run("python -m pytest -q -p no:cacheprovider", guide, PYTHONPATH=".")


def test_the_guides_package_is_found_by_its_entry_point(guide, tmp_path):
    """What an installer would write beside the module is written by hand: no network, no build."""
    project = tomllib.loads((guide / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = tmp_path / f"its_stripes-{project['version']}.dist-info"
    info.mkdir()
    lines = [f"{key} = {value}" for key, value in project["entry-points"]["its.plugins"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[its.plugins]", *lines]), encoding="utf-8")
    metadata = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(metadata, encoding="utf-8")
    (tmp_path / "stripes.py").write_text((guide / "stripes.py").read_text(encoding="utf-8"), encoding="utf-8")
    listed = run("its plugins", tmp_path, PYTHONPATH=str(tmp_path))
    assert re.search(r"Stripes +stripes +Draws one stripe for each word", listed)
    assert "failed to import" not in listed


@pytest.fixture
def tiny_pack(tmp_path, monkeypatch):
    """Tiny random weights under the name of the embedded pack, in its layout."""
    from its_plugins.random_weights import stable_diffusion as random_weights

    registry.load_plugins()
    folder = random_weights.stable_diffusion(tmp_path / "pack", unets=("unet", "unet_audio"))
    pack = replace(registry.packs()["mini"], folder=folder, summary="random")
    monkeypatch.setitem(registry._packs, "mini", pack)


SMALL = {"model.steps": 2, "model.canvas": [256, 256]}


def small_pipelines(its, monkeypatch):
    """Let pipelines that code makes of configs have two steps and a small canvas."""
    real = its.Pipeline.from_config

    def from_config(*configs, overrides=None, **arguments):
        return real(*configs, overrides={**(overrides or {}), **SMALL}, **arguments)

    monkeypatch.setattr(its.Pipeline, "from_config", from_config)


def test_the_readmes_three_lines_make_a_castle(tiny_pack, tmp_path, monkeypatch):
    import its

    (snippet,) = blocks_of(README, "python")
    assert len([line for line in snippet.splitlines() if line and not line.startswith("import")]) == 3
    monkeypatch.chdir(tmp_path)
    small_pipelines(its, monkeypatch)
    exec(compile(snippet, "README.md", "exec"), {})
    assert {"spectrogram.png", "audio.wav", "sample.json"} == {path.name for path in (tmp_path / "castle").iterdir()}


def test_the_snippets_of_the_python_page_run(tiny_pack, tmp_path, monkeypatch):
    import its

    first, ways, components, several, look, *others = blocks_of(PYTHON, "python")
    assert others == []
    monkeypatch.chdir(tmp_path)
    small_pipelines(its, monkeypatch)
    compile(ways, "python.md", "exec")
    shown = first.replace("sample.image.show()\n", "")
    assert shown != first
    names = {}
    for snippet in (shown, several.replace("range(8)", "range(2)"), look):
        exec(compile(snippet, "python.md", "exec"), names)
    assert (tmp_path / "tigers" / "1" / "audio.wav").is_file()
    small = components.replace("steps=30", "steps=2, canvas=(256, 64), trim=0")
    assert small != components
    exec(compile(small, "python.md", "exec"), names)
    assert names["pipe"]("castle", "bell", progress=False).image.size == (64, 256)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(ROOT / "docs" / "notebook.ipynb", as_version=4)
    first = notebook.cells[1]
    small = first.source.replace('"model.steps": 30', '"model.steps": 2, "model.canvas": [256, 256]')
    assert small != first.source
    first.source = small
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output]
    assert sum("<iframe" in output["data"].get("text/html", "") for output in shown) == 3
    assert sum("image/png" in output["data"] for output in shown) == 1  # of two steps, the first
    assert (tmp_path / "castle" / "audio.wav").is_file()


def test_the_table_of_the_examples_runs(tmp_path, monkeypatch, capsys):
    import its

    monkeypatch.chdir(tmp_path)
    small_pipelines(its, monkeypatch)
    monkeypatch.setattr(sys, "argv", ["table.py", "1"])
    script = ROOT / "docs" / "examples" / "table.py"
    exec(compile(script.read_text(encoding="utf-8"), str(script), "exec"), {})
    printed = capsys.readouterr()
    assert all(f"| {t} |" in printed.out for t in ("0.6", "0.8", "1.0")), printed


DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def anchors_of(document):
    """The anchors that GitHub gives the headings of a document."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_links_lead_to_files_and_headings(document):
    links = re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", document.read_text(encoding="utf-8"))
    for name, anchor in links:
        target = document.parent / name if name else document
        assert target.exists(), name
        assert not anchor or anchor in anchors_of(target), f"{name}#{anchor}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda p: p.name)
def test_source_files_that_are_named_exist(document):
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", document.read_text(encoding="utf-8"))
    assert [name for name in named if not (ROOT / name).is_file() and not (ROOT / "its" / name).is_file()] == []
