"""Tests of sweeps: a run over a grid equals separate runs for its points."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from its.cli import main
from its.errors import UserError
from its.specs.sweep import Process, merge_processes
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.schedulers.ddim import DDIM
from its_plugins.schedulers.diffusers_scheduler import DiffusersScheduler

PROCESS = Process(combiner=WarmStartAverage(t={"visual": 0.9, "audio": 1.0}), scheduler=DDIM(), steps=10)


def predict(config, *arguments):
    return main(["predict", "--config", str(config), "--save=[latents]", *map(str, arguments)])


def latents(folder):
    return {f.name: load_file(f / "latents.safetensors")["latents"] for f in (Path(folder) / "samples").iterdir()}


def test_a_sweep_makes_the_samples_of_separate_runs_under_the_same_ids(config, tmp_path):
    sweep = {"guidance_scale.visual": [1.0, 4.0], "combiner.init_args.t.visual": [0.5, 1.0], "steps": [2, 3]}
    overlay = tmp_path / "sweep.yaml"
    overlay.write_text(yaml.safe_dump({"data": {"sweep": sweep, "batch_size": 5}}))
    assert predict(config, "--config", overlay, "--output", tmp_path / "grid") == 0
    grid = latents(tmp_path / "grid")
    assert len(grid) == 16  # 2 x 2 x 2 points, 2 seeds
    records = [json.loads(path.read_text()) for path in (tmp_path / "grid" / "samples").glob("*/sample.json")]
    # Eight rows for each number of steps, in batches of five: the second batch has both and is split.
    assert sorted(r["timings"]["batch_size"] for r in records) == [1] + [2] * 2 + [3] * 3 + [5] * 10
    alone = {}
    for scale in (1.0, 4.0):
        for start in (0.5, 1.0):
            for steps in (2, 3):
                point = [f"--data.guidance_scale.visual={scale}", f"--model.steps={steps}"]
                point += [f"--model.combiner.init_args.t.visual={start}", f"--output={tmp_path / 'points'}"]
                point += ["--mixed=true"]
                assert predict(config, *point) == 0
    alone = latents(tmp_path / "points")
    assert grid.keys() == alone.keys()
    for name in grid:
        torch.testing.assert_close(grid[name] / alone[name].std(), alone[name] / alone[name].std(), rtol=0, atol=1e-5)


def test_schedulers_can_be_swept_over(config, tmp_path):
    other = {"class_path": "DiffusersScheduler", "init_args": {"name": "UniPCMultistepScheduler"}}
    overlay = tmp_path / "sweep.yaml"
    overlay.write_text(yaml.safe_dump({"data": {"sweep": {"scheduler": ["DDIM", other]}}}))
    assert predict(config, "--config", overlay, "--data.seeds=[1]") == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "run" / "samples").glob("*/sample.json")]
    assert sorted(r["settings"]["scheduler"]["class"] for r in records) == ["DDIM", "DiffusersScheduler"]


def test_one_value_can_be_for_all_experts(config, tmp_path):
    assert predict(config, "--data.sweep", "{guidance_scale: [2, 3]}", "--data.seeds=[1]", "--model.steps=1") == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "run" / "samples").glob("*/sample.json")]
    assert sorted(tuple(r["settings"]["guidance_scale"].values()) for r in records) == [(2.0, 2.0), (3.0, 3.0)]


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{step: [1]}", "data.sweep: the method has no setting step to sweep over. Did you mean steps?"),
        ("{guidance_scal: [1]}", "has no setting guidance_scal to sweep over. Did you mean guidance_scale?"),
        ("{guidance_scale.visuel: [1]}", "data.sweep: guidance_scale.visuel: unknown expert visuel"),
        ("{guidance_scale: [loud]}", "is 'loud'; expected a number"),
        ("{steps: [0]}", "data.sweep: steps is 0; expected an integer of at least 1"),
        ("{steps: []}", "data.sweep: steps is []; expected a list of values"),
        ("{combiner.t.visuel: [1.0]}", "data.sweep: combiner.t.visuel: WarmStartAverage has no visuel"),
        ("{combiner.t.visual: [1.5]}", "data.sweep: combiner.t.visual: "),
        ("{combiner.tt: [1.5]}", "WarmStartAverage has no tt"),
        ("{scheduler.spacin: [trailing]}", "DDIM has no spacin. Did you mean spacing?"),
        ("{scheduler: [DDIN]}", "data.sweep: scheduler: unknown class 'DDIN'; registered for Scheduler: DDIM"),
        ("{canvas: [[64, 64]]}", "has no setting canvas to sweep over"),
    ],
)
def test_a_wrong_sweep_is_one_message_and_nothing_is_touched(config, sweep, message, capsys, tmp_path):
    assert predict(config, "--data.sweep", sweep) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_processes_share_a_batch_where_only_combiners_differ():
    other = PROCESS.with_settings(
        {"combiner": {"class_path": "Regions", "init_args": {"masks": {"visual": 1, "audio": 1}}}}
    )
    for same in (PROCESS.with_settings({"combiner.t.visual": 0.5}), other):
        assert same.batch_key == PROCESS.batch_key
    assert PROCESS.with_settings({"steps": 5}).batch_key != PROCESS.batch_key
    assert PROCESS.with_settings({"scheduler.spacing": "trailing"}).batch_key != PROCESS.batch_key
    assert merge_processes([PROCESS, PROCESS]) is PROCESS
    assert merge_processes([PROCESS, other]).participants() == {"visual", "audio"}


def test_a_sweep_over_a_combiner_that_is_not_linear_makes_the_samples_of_separate_runs(config, tmp_path):
    overlay = tmp_path / "regions.yaml"
    masks = {"visual": {"right": 0.5}, "audio": 1.0}
    regions = {"class_path": "Regions", "init_args": {"masks": masks}}
    overlay.write_text(yaml.safe_dump({"model": {"combiner": regions, "steps": 2}}))
    sweep = "{combiner.masks.audio: [0.25, 1.0]}"
    run = ["--config", overlay, "--data.seeds=[1]"]
    assert predict(config, *run, "--data.sweep", sweep, "--output", tmp_path / "grid") == 0
    records = [json.loads(path.read_text()) for path in (tmp_path / "grid" / "samples").glob("*/sample.json")]
    assert [record["timings"]["batch_size"] for record in records] == [2, 2]
    for audio in (0.25, 1.0):
        point = f"--model.combiner.init_args.masks.audio={audio}"
        assert predict(config, *run, point, "--mixed=true", "--output", tmp_path / "points") == 0
    grid, alone = latents(tmp_path / "grid"), latents(tmp_path / "points")
    assert grid.keys() == alone.keys()
    for name in grid:
        torch.testing.assert_close(grid[name] / alone[name].std(), alone[name] / alone[name].std(), rtol=0, atol=1e-5)


def test_a_scheduler_of_another_class_comes_before_its_arguments():
    changed = PROCESS.with_settings({"scheduler.name": "DEISMultistepScheduler", "scheduler": "DiffusersScheduler"})
    assert isinstance(changed.scheduler, DiffusersScheduler)
    assert changed.scheduler.name == "DEISMultistepScheduler"


def test_a_value_of_no_class():
    with pytest.raises(UserError, match=r"data.sweep: combiner: got 3; expected NAME"):
        PROCESS.with_settings({"combiner": 3})


def test_a_combiner_within_another_and_its_arguments():
    regions = {"class_path": "Regions", "init_args": {"masks": {"a": 1.0, "b": 0.5}}}
    warm = {"class_path": "WarmStartAverage", "init_args": {"t": {"a": 1.0, "b": 0.9}}}
    chosen = PROCESS.with_settings({"combiner": regions | {"init_args": regions["init_args"] | {"combiner": warm}}})
    assert chosen.combiner.weights(0.0) == {"a": 1.0, "b": 0.0}
    changed = chosen.with_settings({"combiner.combiner.t.b": 1.0})
    assert changed.combiner.weights(0.0) == {"a": 0.5, "b": 0.5}
    assert chosen.combiner.weights(0.0) == {"a": 1.0, "b": 0.0}
    assert chosen.participants() == {"a", "b"}
