"""Tests of sample ids: they depend on everything that defines a sample, and are reproducible."""

import json
from pathlib import Path

import pytest
import yaml
from PIL import Image

from its.cli import main
from its_plugins.random_weights import deepfloyd_if

ROOT = Path(__file__).parents[3]


@pytest.fixture
def predict(config, tmp_path, capsys):
    """Function that runs `its predict` twice, checks that the second run skips all, and returns the records."""

    def run(rows, *arguments):
        (tmp_path / "rows.yaml").write_text(yaml.safe_dump(rows))
        command = ["predict", "--config", str(config), "--data.seeds=[1]", f"--data.prompts={tmp_path / 'rows.yaml'}"]
        for attempt in ("first", "second"):
            assert main([*command, *map(str, arguments)]) == 0
            out = capsys.readouterr().out
            assert ("from an earlier run" in out) == (attempt == "second")
        records = [json.loads(path.read_text()) for path in (tmp_path / "run" / "samples").glob("*/sample.json")]
        assert {path.name for path in (tmp_path / "run" / "samples").iterdir()} == {record["id"] for record in records}
        return records

    return run


IMPRINT = ("--config", ROOT / "configs/methods/imprint.yaml", "--model.steps.visual=2", "--model.steps.audio=2")


def test_several_prompts_with_a_colorizer(predict, tmp_path):
    weights = str(deepfloyd_if.deepfloyd_if(tmp_path / "if"))
    expert = {"class_path": "DeepFloydIF", "init_args": {"weights": weights, "variant": None}}
    colorizer = {"class_path": "FactorizedDiffusion", "init_args": {"expert": expert, "steps": 2, "start": 1}}
    (tmp_path / "color.yaml").write_text(yaml.safe_dump({"model": {"colorizer": colorizer}}))
    rows = [{"visual": "a painting of castle towers", "audio": "bell"}, {"visual": "a dog", "audio": "bell"}]
    records = predict(rows, "--config", tmp_path / "color.yaml")
    assert {record["settings"]["colorizer"]["prompt"] for record in records} == {
        "a colorful photo of castle towers",
        "a colorful photo of a dog",
    }


def test_a_file_in_the_second_row(predict, tmp_path):
    Image.new("RGB", (128, 64), "gray").save(tmp_path / "wall.png")
    rows = [{"visual": "castle", "audio": "bell"}, {"visual": {"image": str(tmp_path / "wall.png")}, "audio": "bell"}]
    records = predict(rows, *IMPRINT)
    assert sorted("files" in record["settings"] for record in records) == [False, True]


def test_files_of_one_name_and_other_content(predict, tmp_path):
    rows = []
    for shade in ("gray", "black"):
        (tmp_path / shade).mkdir()
        Image.new("RGB", (128, 64), shade).save(tmp_path / shade / "wall.png")
        rows.append({"visual": {"image": str(tmp_path / shade / "wall.png")}, "audio": "bell"})
    assert len(predict(rows, *IMPRINT)) == 2


def test_a_file_under_a_method_that_takes_none_is_refused_before_anything_is_made(config, tmp_path, capsys):
    Image.new("RGB", (128, 64), "gray").save(tmp_path / "wall.png")
    rows = [{"visual": "castle", "audio": "bell"}, {"visual": {"image": str(tmp_path / "wall.png")}, "audio": "bell"}]
    (tmp_path / "rows.yaml").write_text(yaml.safe_dump(rows))
    assert main(["predict", "--config", str(config), f"--data.prompts={tmp_path / 'rows.yaml'}"]) == 2
    (message,) = capsys.readouterr().err.splitlines()
    assert "row 2" in message
    assert "Imprint" in message
    assert not (tmp_path / "run").exists()
