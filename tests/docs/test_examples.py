"""The code in the documents runs, as it is written there."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from its import registry

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "writing-a-plugin.md").read_text(encoding="utf-8")
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


def test_the_guides_command_draws_what_it_is_said_to_draw(guide, forks):
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
    pack = registry.Pack(name="mini", folder=folder, config=tmp_path / "none.yaml", summary="random")
    monkeypatch.setitem(registry._packs, "mini", pack)


def test_the_readmes_snippet_runs(tiny_pack, tmp_path, monkeypatch):
    import soundfile
    from PIL import Image

    (snippet,) = blocks_of(README, "python")
    for written, small in (("(256, 1024)", "(256, 64)"), ("steps=50", "steps=2")):
        assert written in snippet
        snippet = snippet.replace(written, small)
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {})
    assert Image.open("castle_bell.png").size == (64, 256)
    sound, rate = soundfile.read("castle_bell.wav")
    assert (len(sound), rate) == (64 * 160, 16_000)


DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


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
