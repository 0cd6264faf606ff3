import time

import pytest

from its.interfaces import Step
from its.outputs import progress
from its.outputs.progress import Progress


class Module:
    class device:  # noqa: N801
        type = "cpu"

    on_step = None


class Trainer:
    is_global_zero = True
    world_size = 2


def step(index, weights=None):
    return Step(index=index, steps=100, timestep=1, weights=weights or {"visual": 0.0, "audio": 1.0})


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(progress, "method_of", lambda module: module)
    bar, module = Progress(rows=10), Module()
    bar.on_predict_start(Trainer(), module)
    return bar, module


def test_a_slow_cpu_is_told_how_long_it_takes_and_what_else_there_is(shown, monkeypatch, capsys):
    _, module = shown
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for index in range(4):
        now[0] += 9.0  # one expert of two runs: each step will take 18 s, a batch of 2 in 100 steps 900 s a sample
        module.on_step(step(index), 2)
    err = capsys.readouterr().err
    assert err.count("on this CPU a sample takes about 15 minutes") == 1
    assert "--config configs/models/mini.yaml" in err


def test_a_fast_one_is_told_nothing(shown, capsys):
    _, module = shown
    module.on_step(step(0), 1)
    module.on_step(step(1), 1)
    assert capsys.readouterr().err == ""


def test_lines_where_there_is_no_terminal(shown, capsys):
    bar, module = shown
    bar.on_predict_batch_end(Trainer(), module, None, [1, 2, 3], 0)
    bar.on_predict_batch_end(Trainer(), module, None, [1, 2, 3], 1)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ")[0] for line in lines] == ["6/10", "10/10"]  # two ranks; never more than there are
