"""No record breaks a command that reads runs: damaged records are logged and left out."""

import json
import math
import random
import shutil

import pytest
import torch

from its import registry
from its.cli import COMMANDS, main
from its.interfaces import Colorizer, Scorer
from its.runs.records import load_record
from its.runs.resume import read_status

JUNK = [
    None, True, False, 0, -1, 1, 7.5, 1e308, math.inf, -math.inf, math.nan, 2**53 + 1, -(2**63), 2**64, 10**400,
    "", "x", "\ud800", "\x1b[2J\x1b]0;title\x07", "../../etc", "<script>alert(1)</script>", "=1+1", "a\nb|c d & %",
    "ok", "failed", "stopped", "城" * 100, [], [[]], [None], ["x", 1], {}, {"": None}, {"x": {"x": {}}},
    {"name": 3, "sha256": 5, "embedded": "yes"}, {"class": 3, "expert": {"class": {}}},
    {"weights": {"visual": 0, "audio": 1}}, {"score": "high", "judges": 3, "weights": "x"},
    {"score": 10**300, "weights": {"revision": 7}},
]  # fmt: skip
DEEP = "deep"
"""Placeholder for a value nested 100,000 levels deep, which Python's JSON encoder refuses."""


class Loud(Scorer):
    """Scores every sample one half."""

    @property
    def modality(self):
        return "audio"

    def score(self, samples):
        return [0.5 for _ in samples]


class Tint(Colorizer):
    """Tints every picture alike."""

    def forward(self, gray, prompts, generators):
        return gray.expand(-1, 3, -1, -1) * torch.tensor([1.0, 0.5, 0.2]).view(1, 3, 1, 1)


@pytest.fixture
def stubs(monkeypatch):
    for cls in (Loud, Tint):
        monkeypatch.setitem(registry._classes, cls.__name__, cls)


@pytest.fixture
def good(add):
    """Folder of a sample whose record has all kinds of values."""
    view = {"class": "View", "expert": {"class": "Auffusion"}}
    settings = {
        "canvas": [64, 128],
        "trim": 0,
        "combiner": {"class": "WarmStartAverage", "weights": {"visual": 1}},
        "experts": {"visual": {"class": "StableDiffusion"}, "audio": view},
        "colorizer": {"class": "Tint", "prompt": "a photo"},
    }
    return add(
        seconds=0.2,
        color=True,
        scores={"Loud": {"score": 0.25, "judges": "audio", "weights": {"name": "a", "sha256": "0" * 64}}, "clip": 0.5},
        settings=settings,
        config={"method": "MultimodalDenoising", "model": {"steps": 2}, "data": {"prompts": [{}]}},
        roles={"visual": "visual", "audio": "audio"},
        rank=1,
        kept=True,
        evaluations={"made": 3, "whole": 4},
    )


def places(value, way=()):
    """Yield the keys and indices that lead to each value of nested mappings and lists."""
    yield way
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield from places(one, (*way, key))


def spoil(record, chance):
    """Replace one to three values or keys of a record by junk, and return its JSON."""
    record = json.loads(json.dumps(record))
    for _ in range(chance.randint(1, 3)):
        *way, last = chance.choice([way for way in places(record) if way])
        holder = record
        for key in way:
            holder = holder[key]
        action = chance.random()
        if action < 0.15:
            del holder[last]
        elif action < 0.25 and isinstance(holder, dict):
            holder[str(chance.choice(JUNK))] = holder.pop(last)
        else:
            holder[last] = chance.choice([*JUNK, DEEP])
    text = json.dumps(record, ensure_ascii=chance.random() < 0.5)
    return text.replace(f'"{DEEP}"', "[" * 100_000 + "]" * 100_000).encode(errors="surrogatepass")


def commands(run, other, out):
    """All commands that read runs, with several options."""
    yield from (
        ["table", run, "--table", form, "--by", "run", "method", "prompt", "seed"] for form in ("md", "csv", "latex")
    )
    yield ["table", run, "--by", "combiner.class", "prompt.visual"]
    yield ["gallery", run, other, "--output", out / "gallery"]
    yield ["study", run, other, "--output", out / "study"]
    yield ["evaluate", run, "--scorers", "Loud", "--device", "cpu", "--best", "1", "--rank_by", "audio"]
    yield ["log", run, "--mode", "disabled", "--dir", out]
    yield ["video", run]
    yield ["colorize", run, "--model.colorizer=Tint", "--trainer.accelerator=cpu"]
    yield ["gallery", run]


@pytest.mark.parametrize("seed", range(8))
def test_random_records_break_no_command(good, add, stubs, tmp_path, monkeypatch, capsys, seed):
    monkeypatch.setenv("ITS_DEBUG", "1")  # unexpected errors are raised
    chance = random.Random(seed)
    record = json.loads((good / "sample.json").read_text())
    for number in range(4):
        folder = good.with_name(f"spoilt-{number}")
        shutil.copytree(good, folder)
        (folder / "sample.json").write_bytes(spoil(record, chance))
    add("other", seconds=0.2)
    for command in commands(good.parents[1], tmp_path / "other", tmp_path):
        assert main([str(argument) for argument in command]) in (0, 1, 2), command
        printed = capsys.readouterr()
        assert "\x1b" not in printed.out + printed.err, command
        assert "Traceback" not in printed.err, command
    for folder in good.parent.iterdir():
        assert main(["rerun", str(folder / "sample.json")]) == 2  # its config names no experts
    standing = read_status(good.parent, [folder.name for folder in good.parent.iterdir()], ["color", "video"])
    assert sum(map(len, (standing.done, standing.failed, standing.stopped, standing.missing))) == 5


DAMAGE = {
    "deep": (b'{"status": "ok", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
    "nested": (b'{"status": "ok", "x": ' + b"[" * 150 + b"]" * 150 + b"}", "nested too deeply"),
    "digits": (b'{"status": "ok", "seed": 1' + b"0" * 400 + b"}", "more than 64 bits"),
    "more digits": (b'{"status": "ok", "seed": 1' + b"0" * 5000 + b"}", "4300"),
    "surrogate": (rb'{"status": "ok", "prompts": {"visual": "\ud800"}}', "surrogate"),
    "latin-1": ('{"status": "ök"}'.encode("latin-1"), "not UTF-8"),
    "list": (b"[]", "expected a mapping"),
    "types": (b'{"status": "ok", "prompts": ["castle"], "seed": 1}', r"prompts is \['castle'\]; expected dict"),
    "boolean": (b'{"status": "ok", "prompts": {}, "seed": true}', "seed is True; expected int"),
    "incomplete": (b'{"status": "ok", "prompts": {}}', "has no seed"),
    "prompts": (
        json.dumps({"status": "ok", "seed": 1, "prompts": dict.fromkeys(map(str, range(101)), "x")}).encode(),
        "100",
    ),
    "empty": (b"", "Expecting value"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_records_are_named_and_left_out(add, capsys, kind):
    content, reason = DAMAGE[kind]
    good, bad = add(seed=1), add(seed=2)
    (bad / "sample.json").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        load_record(bad)
    assert main(["gallery", str(good.parents[1])]) == 0
    printed = capsys.readouterr()
    assert f"{bad} is left out: sample.json can't be read: " in printed.err
    assert "shows 1 samples of 1 run" in printed.out
    assert read_status(good.parent, [good.name, bad.name]).missing == [1]  # and made again


def test_folders_with_unusable_names_are_named_and_left_out(add, tmp_path, capsys):
    good = add()
    for name in (b"a\x1b[2Jb", b"latin-1 \xe4", b"two\nlines"):
        shutil.copytree(bytes(good), bytes(good.parent) + b"/" + name)
    (good.parent / "link").symlink_to(good)
    assert main(["gallery", str(good.parents[1])]) == 0
    printed = capsys.readouterr().err
    assert "\x1b" not in printed
    assert printed.count("the name of the folder is not printable") == 3
    assert f"{good.parent / 'link'} is left out: sample.json can't be read: the folder is a symbolic link" in printed


def test_every_command_that_reads_runs_is_tried(tmp_path):
    tried = {command[0] for command in commands(tmp_path, tmp_path, tmp_path)} | {"rerun"}
    without_runs = {"predict", "plugins", "sonify", "spectrogram", "doctor", "study-results", "reproduce", "configs"}
    served = {"app"}  # which tests/its/app/test_library.py tries
    assert tried | without_runs | served == set(COMMANDS)
