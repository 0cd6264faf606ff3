"""Status of the samples in a run directory, for runs that continue."""

import json
from pathlib import Path

import pytest

from its.errors import UserError
from its.runs.resume import CONFIG, RunStatus, check_same_settings, differences, read_status
from its.specs.prompts import PromptGrid
from its.specs.spec import assign_ids

ROW = {"visual": "castle", "audio": "bell"}


def write(samples, name, status="ok", *files):
    (samples / name).mkdir(parents=True)
    (samples / name / "sample.json").write_text(json.dumps({"status": status, "prompts": ROW, "seed": 1}))
    for file in files:
        (samples / name / file).touch()


def test_looking_tells_whole_failed_missing_and_others(tmp_path):
    for name, status in {"a": "ok", "b": "failed", "x": "ok", "y": "ok"}.items():
        write(tmp_path, name, status)
    (tmp_path / "c").mkdir()  # killed before its record
    write(tmp_path, "e", "ok", "latents.safetensors")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "sample.json").write_text('{"status": "o')
    names = ["a", "b", "c", "d", "e", "f"]
    assert read_status(tmp_path, names) == RunStatus(done=[0, 4], failed=[1], stopped=[], missing=[2, 3, 5], others=2)
    assert read_status(tmp_path, names, ["latents"]).done == [4]
    assert read_status(tmp_path / "nowhere", names) == RunStatus(
        done=[], failed=[], stopped=[], missing=[0, 1, 2, 3, 4, 5], others=0
    )


def test_equal_specs_are_one_and_points_are_described_once():
    grid = PromptGrid(prompts=[ROW, ROW], seeds=[1, 2], sweep={"steps": [3, 4]})
    described = []

    def definition(row):
        described.append(row)
        return {"steps": row.settings["steps"]}

    specs = assign_ids(grid.expand(["visual", "audio"]), definition)
    assert len(specs) == len({spec.id for spec in specs}) == 4
    assert [spec.definition["steps"] for spec in specs] == [3, 3, 4, 4]
    assert len(described) == 2


def test_only_keys_that_affect_samples_are_listed():
    old = {
        "trainer": {"precision": "32-true"},
        "model": {"steps": 6, "compile": False, "fallback": None, "canvas": [64, 128], "codec": None},
        "data": {"seeds": [1], "batch_size": 1, "prompts": [ROW], "guidance_scale": {"audio": 7.5}},
        "output": "a",
    }
    new = {
        "trainer": {"precision": "bf16-true"},
        "model": {"steps": 5, "compile": True, "fallback": "mini", "canvas": [64, 128], "codec": {"class_path": "X"}},
        "data": {"seeds": [2], "batch_size": 4, "prompts": "p.csv", "guidance_scale": {"audio": 7.5, "visual": 2.0}},
        "output": "b",
    }
    assert list(differences(old, new)) == [
        "data.guidance_scale.visual is not set there, 2.0 here",
        "model.codec.class_path is not set there, X here",
        "model.steps is 6 there, 5 here",
    ]
    assert list(differences({}, new)) == []  # the earlier config is unknown


def test_errors_that_stop_a_command_and_errors_that_do_not(tmp_path, capsys):
    (tmp_path / CONFIG).write_text("model: {steps: 6}\n")
    config, strangers = {"model": {"steps": 5}}, RunStatus(missing=[0], others=3)
    with pytest.raises(UserError, match=r"has 3 samples of another config: model.steps is 6 there, 5 here\. Choose"):
        check_same_settings(tmp_path, config, strangers, mixed=False)
    check_same_settings(tmp_path, config, strangers, mixed=True)
    check_same_settings(tmp_path, config, RunStatus(done=[0], others=3), mixed=False)  # this config was here too
    check_same_settings(tmp_path, {"model": {"steps": 6}}, strangers, mixed=False)
    (tmp_path / CONFIG).write_text("{")
    check_same_settings(tmp_path, config, strangers, mixed=False)
    assert capsys.readouterr().err.count("3 samples of other specs or settings") == 4
    weights = {"model": {"weights": str(Path.home() / "w")}}  # written with ~ since then
    (tmp_path / CONFIG).write_text(f"model: {weights['model']}\n")
    check_same_settings(tmp_path, {"model": {"weights": "~/w"}}, strangers, mixed=False)
    capsys.readouterr()
    check_same_settings(tmp_path, config, RunStatus(missing=[0]), mixed=False)
    assert capsys.readouterr().err == ""
