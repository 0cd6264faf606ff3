import time
from typing import ClassVar

import pytest
import torch

from its.engine import progress
from its.engine.progress import Progress
from its.interfaces import Step


class Module:
    device = torch.device("cpu")
    on_step = None
    provenance: ClassVar = {}


class Logger:
    def __init__(self):
        self.params, self.metrics = {}, []

    def log_hyperparams(self, params):
        self.params = params

    def log_metrics(self, metrics, step):
        self.metrics.append((step, metrics))


class Trainer:
    is_global_zero = True
    world_size = 2
    loggers = ()


def step(index):
    return Step(index=index, steps=100, timestep=1, experts=("visual", "audio"), ran=("audio",))


@pytest.fixture
def shown(monkeypatch):
    monkeypatch.setattr(progress, "method_of", lambda module: module)
    bar, module = Progress(), Module()
    bar.expect(10)
    bar.on_predict_start(Trainer(), module)
    return bar, module


def test_a_slow_cpu_is_announced_with_the_time_of_a_sample_and_of_the_run(shown, monkeypatch, capsys):
    _, module = shown
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    for index, seconds in enumerate((50.0, 9.0, 9.0, 9.0)):  # the first step warms up
        now[0] += seconds  # one expert of two runs: each step will take 18 s, a batch of 2 in 100 steps 900 s a sample
        module.on_step(step(index), 2)
    err = capsys.readouterr().err
    assert err.count("on this CPU a sample takes about 15 min 0 s, and this run 1 h 15 min;") == 1  # 10, by two ranks
    assert "--config models/mini" in err


def test_the_time_left_is_estimated_before_the_first_sample_is_finished(monkeypatch, clock, capsys):
    _, module, _ = begun(monkeypatch, rows=10)
    for index in range(51):
        clock[0] += 0.2  # a batch of 2 in 100 steps of 0.4 s: 20 s a sample, and two ranks
        module.on_step(step(index), 2)
    (line,) = capsys.readouterr().err.splitlines()
    # 10 samples at 10 s each, less half of two batches
    assert line.startswith("its: 0/10 samples, step 50/100, about 1 min 20 s left, ")


def test_steps_of_a_gpu_are_not_timed(monkeypatch, clock):
    monkeypatch.setattr(Module, "device", torch.device("cuda"))
    bar, module, _ = begun(monkeypatch, rows=10)
    for index in range(3):
        clock[0] += 1.0
        module.on_step(step(index), 2)
    assert bar.seconds_a_sample is None


def test_a_fast_run_logs_no_warning(shown, capsys):
    _, module = shown
    module.on_step(step(0), 1)
    module.on_step(step(1), 1)
    assert capsys.readouterr().err == ""


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def begun(monkeypatch, *, rows, earlier=0, loggers=()):
    monkeypatch.setattr(progress, "method_of", lambda module: module)
    bar, module, trainer = Progress(), Module(), Trainer()
    trainer.loggers = loggers
    bar.expect(rows, earlier=earlier, config={"model": {"steps": 3}})
    bar.on_predict_start(trainer, module)
    return bar, module, trainer


def test_lines_without_a_terminal(monkeypatch, clock, capsys):
    bar, module, trainer = begun(monkeypatch, rows=10, earlier=20)
    for index, seconds in enumerate((12.0, 2.0)):  # two ranks; never more than there are
        clock[0] += seconds
        bar.on_predict_batch_end(trainer, module, [1, 2, 3], [1, 2, 3], index)
    bar.on_predict_end(trainer, module)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" ")[1] for line in lines] == ["26/30", "30/30"]
    assert lines[0].startswith("its: 26/30 samples, 0.5/s, 8 s left, ")  # six made in 12 s; 20 were there
    assert lines[0].endswith(" GiB")


def test_a_step_tells_where_a_long_batch_is(monkeypatch, clock, capsys):
    _, module, _ = begun(monkeypatch, rows=10)
    module.on_step(step(0), 2)
    clock[0] += 11.0
    module.on_step(step(41), 2)
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("its: 0/10 samples, step 42/100, ")


def test_a_long_run_says_little(monkeypatch, clock, capsys):
    bar, module, trainer = begun(monkeypatch, rows=10**6)
    gaps, last = [], clock[0]
    for index in range(40000):  # of one second each
        clock[0] += 1.0
        bar.on_predict_batch_end(trainer, module, [1], [1], index)
        if capsys.readouterr().err:
            gaps.append(clock[0] - last)
            last = clock[0]
    assert gaps[0] == min(gaps) == 10
    assert len(gaps) < 400


def test_loggers_get_the_config_and_the_speed(monkeypatch, clock):
    logger = Logger()
    bar, module, trainer = begun(monkeypatch, rows=8, earlier=2, loggers=[logger])
    clock[0] += 16.0
    bar.on_predict_batch_end(trainer, module, [1] * 4, [1] * 4, 0)
    assert logger.params == {"model": {"steps": 3}}
    assert logger.metrics == [(10, {"samples": 10, "samples_per_second": 0.5})]


@pytest.mark.parametrize(("seconds", "text"), [(59.4, "59 s"), (61, "1 min 1 s"), (7322, "2 h 2 min")])
def test_durations(seconds, text):
    assert progress._duration(seconds) == text
