"""A received run directory may hold symbolic links: nothing is read, copied, uploaded or written through them."""

import os

import numpy as np
import pytest

from its import registry
from its.cli import main
from its.interfaces import Colorizer, Scorer
from its.media.encode import write_png, write_wav
from its.report.wandb_log import table_of
from its.runs.reader import read_runs


class Loud(Scorer):
    """Scores every sample one half."""

    @property
    def modality(self):
        return "audio"

    def score(self, samples):
        return [0.5 for _ in samples]


class Tint(Colorizer):
    """Returns gray pictures."""

    def forward(self, gray, prompts, generators):
        return gray.expand(-1, 3, -1, -1)


@pytest.fixture(autouse=True)
def _stubs(monkeypatch):
    for cls in (Loud, Tint):
        monkeypatch.setitem(registry._classes, cls.__name__, cls)


@pytest.fixture
def home(tmp_path):
    """Private files of the user: a text, a picture and a sound."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".profile").write_text("model: {colorizer: secret}")
    write_png(home / "face.png", np.full((64, 128), 77, np.uint8))
    write_wav(home / "voice.wav", np.full(3200, 77, np.int16), 16_000)
    return home


def content(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


COMMANDS = {
    "gallery": ["gallery", "RUN"],
    "video": ["video", "RUN", "--again"],
    "evaluate": ["evaluate", "RUN", "--scorers", "Loud", "--device=cpu", "--best=1", "--rank_by=audio"],
    "colorize": ["colorize", "RUN", "--model.colorizer=Tint", "--trainer.accelerator=cpu", "--count=2", "--video"],
    "study": ["study", "RUN", "OTHER", "--output", "STUDY"],
    "log": ["log", "RUN", "--mode=disabled"],
    "table": ["table", "RUN", "--by", "seed"],
}
OUTPUTS = (
    "color.png", "color_2.png", "color.mp4", "color_2.mp4", "video.mp4", "sample.json.partial", "color.png.partial",
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("link", ["outputs", "run files", "media", "sample", "samples"])
def test_no_command_follows_a_link(add, home, tmp_path, monkeypatch, capsys, command, link):
    monkeypatch.setenv("ITS_DEBUG", "1")
    monkeypatch.chdir(tmp_path)
    record = {"settings": {"canvas": [64, 128], "trim": 0}, "scores": {"Loud": {"score": 0.5}}, "seconds": 0.2}
    whole, bad = add(seed=1, **record), add(seed=2, **record)
    add("other", seed=1, **record)
    run = whole.parents[1]
    if link == "outputs":
        for name in OUTPUTS:
            (bad / name).symlink_to(home / ("face.png" if name.endswith(".png") else ".profile"))
    elif link == "run files":
        for name in ("index.html", "scores.csv", "ranking.csv", "its_config.yaml", "scores.csv.partial"):
            (run / name).symlink_to(home / ".profile")
    elif link == "media":
        for name, target in (("spectrogram.png", "face.png"), ("audio.wav", "voice.wav")):
            (bad / name).unlink()
            (bad / name).symlink_to(home / target)
    else:
        moved = home / "moved"
        (bad if link == "sample" else run / "samples").rename(moved)
        (bad if link == "sample" else run / "samples").symlink_to(moved)
    before = content(home)
    places = {"RUN": run, "OTHER": tmp_path / "other", "STUDY": tmp_path / "study"}
    assert main([str(places.get(argument, argument)) for argument in COMMANDS[command]]) in (0, 1, 2)
    assert content(home) == before
    private = {data for path, data in before.items() if path.name in ("face.png", "voice.wav", ".profile")}
    made = [
        path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink() and home not in path.parents
    ]
    assert not [path for path in made if path.read_bytes() in private]
    if link == "samples":
        assert "samples is a symbolic link, which is not followed below" in capsys.readouterr().err
    if link == "sample":
        assert "the folder is a symbolic link" in capsys.readouterr().err


def test_only_regular_files_of_the_right_kind_are_uploaded(add, home, capsys):
    names = ("a", "b", "c")
    folders = dict(zip(names, (add(seed=seed) for seed in (1, 2, 3)), strict=True))
    (folders["a"] / "video.mp4").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    (folders["b"] / "audio.wav").unlink()
    (folders["b"] / "audio.wav").symlink_to(home / "voice.wav")
    (folders["c"] / "spectrogram.png").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    os.mkfifo(folders["c"] / "color.png")
    (run,) = read_runs([folders["a"].parents[1]])
    table = table_of(run.samples)
    rows = {row[table.columns.index("seed")]: dict(zip(table.columns, row, strict=True)) for row in table.data}
    assert not {"video", "color"} & set(table.columns)
    assert [rows[seed]["spectrogram"] is not None for seed in (1, 2, 3)] == [True, True, False]
    assert [rows[seed]["sound"] is not None for seed in (1, 2, 3)] == [True, False, True]
    said = capsys.readouterr().err
    assert f"its: WARNING: {folders['a'] / 'video.mp4'} is not uploaded: it is not a valid MP4 file" in said
    assert f"its: WARNING: {folders['c'] / 'spectrogram.png'} is not uploaded: it is not a PNG file" in said
