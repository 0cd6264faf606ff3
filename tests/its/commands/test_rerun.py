"""`its rerun` on tiny weights: the same sample from any of its files, or a word about what differs."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from its.cli import main
from its.media.encode import write_png
from its.media.metadata import read_metadata

FILES = ["spectrogram.png", "image.png", "audio.wav", "video.mp4", "sample.json"]


def run(config, *arguments):
    """Predict, and the folders of its samples."""
    assert main(["predict", "--config", str(config), *arguments]) == 0
    return sorted((config.parent / "run/samples").iterdir())


def again(tmp_path):
    """The folders that a rerun made."""
    return sorted((tmp_path / "again/samples").iterdir())


def rerun(file, tmp_path, *arguments):
    return main(["rerun", str(file), "--output", str(tmp_path / "again"), *arguments])


def forge(path, config):
    """Write a PNG with this config in its metadata."""
    text = json.dumps({"its": "1", "id": "x", "config": config, "weights": {}})
    write_png(path, np.zeros((8, 8), np.uint8), text)


def test_every_file_makes_the_same_sample(config, tmp_path):
    _, made = run(config, "--save", "[image, video]")
    pictures = {p.name: np.asarray(Image.open(p)) for p in made.glob("*.png")}
    for name in FILES:
        shutil.copy(made / name, tmp_path / f"moved_{name}")
    shutil.rmtree(config.parent / "run")
    one, *others = [read_metadata(tmp_path / f"moved_{name}") for name in FILES]
    assert all({**other, "its": ""} == {**one, "its": ""} for other in others)
    assert rerun(tmp_path / "moved_audio.wav", tmp_path) == 0
    (folder,) = again(tmp_path)
    assert folder.name == made.name
    assert {p.name for p in folder.iterdir()} == set(FILES)
    for file, before in pictures.items():  # not to the bit: the batch was another
        assert abs(np.asarray(Image.open(folder / file)).astype(int) - before).max() <= 1


def test_a_point_of_a_sweep_and_a_row_of_its_own(config, tmp_path):
    content = yaml.safe_load(config.read_text())
    content["data"] |= {
        "prompts": [{"visual": "a <b>城</b>\n", "audio": "'\"", "seed": 5, "guidance_scale": {"visual": 3}}],
        "negative_prompts": {"audio": "noise"},
        "sweep": {"steps": [2, 3], "combiner.t.visual": [0.25], "scheduler": ["DDIM"]},
    }
    config.write_text(yaml.safe_dump(content))
    for folder in run(config):
        assert rerun(folder / "spectrogram.png", tmp_path) == 0
    assert [f.name for f in again(tmp_path)] == [f.name for f in sorted((config.parent / "run/samples").iterdir())]


def test_weights_in_another_place_are_the_same_weights(config, tiny, tmp_path):
    made = run(config)[0]
    shutil.copytree(tiny / "sd", tmp_path / "elsewhere")
    options = ["--model.experts.visual.weights", str(tmp_path / "elsewhere")]
    assert rerun(made / "audio.wav", tmp_path, *options) == 0
    assert again(tmp_path)[0].name == made.name


def test_other_weights_are_an_error_and_nothing_is_made(config, tiny, tmp_path, capsys):
    made = run(config)[0]
    options = ["--model.experts.visual.weights", str(tiny / "auffusion")]
    capsys.readouterr()
    assert rerun(made / "audio.wav", tmp_path, *options) == 2
    err = capsys.readouterr().err
    assert "the sample would differ, so nothing was made" in err
    assert "weights.experts.visual.sha256: '" in err
    assert not (tmp_path / "again").exists()
    assert rerun(made / "audio.wav", tmp_path, *options, "--anyway") == 0
    assert again(tmp_path)[0].name != made.name


def test_other_settings_are_named(config, tmp_path, capsys):
    made = run(config)[0]
    assert rerun(made / "sample.json", tmp_path, "--model.steps", "5") == 2
    assert "settings.steps: 6 -> 5" in capsys.readouterr().err


def test_missing_weights_are_no_fallback(config, tmp_path, capsys):
    made = run(config)[0]
    assert rerun(made / "sample.json", tmp_path, "--model.experts.visual.weights", "/nowhere") == 2
    message = capsys.readouterr().err
    assert "model.experts.visual: weights: /nowhere" in message
    assert "WARNING" not in message


def test_metadata_can_be_left_out(config, tmp_path, capsys):
    made = run(config, "--no-metadata", "--save", "[video]")[0]
    for name in ("spectrogram.png", "audio.wav", "video.mp4"):
        assert rerun(made / name, tmp_path) == 2
        assert "has no metadata" in capsys.readouterr().err
    assert rerun(made / "sample.json", tmp_path) == 0


def test_a_picture_is_a_config_too(config, tmp_path):
    made = run(config)[0]
    output = str(tmp_path / "other")
    arguments = ["--config", str(made / "spectrogram.png"), "--data.seeds", "[9]", "--output", output]
    assert main(["predict", *arguments, "--data.prompts", '[{"visual": "a", "audio": "b"}]']) == 0
    assert [p.name[:6] for p in (tmp_path / "other/samples").iterdir()] == ["a-b-9-"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"vocoder": {"class_path": "os.system"}}}, "unknown class 'os.system'"),
        ({"model": {"vocoder": "own.Vocoder"}}, "unknown class 'own.Vocoder'"),
        ({"trainer": {"logger": "evil.Logger"}}, "trainer in the metadata has other keys than precision"),
        ({"data": {"prompts": "/etc/passwd"}}, "expected one row of prompts"),
        ({"data": {"prompts": [{}], "batch_size": 10**9}}, "expected one row of prompts"),
        ({"output": "/etc"}, "allowed keys: method, model, data"),
        ({"model": "/etc/secret.yaml"}, "model in the metadata is '/etc/secret.yaml'; expected a dict"),
        ({"save": ["everything"]}, "save"),
        ({"model": {"stepz": 3}}, "model.stepz"),
    ],
)
def test_metadata_is_data_and_checked_as_a_config(change, message, tmp_path, capsys):
    forge(tmp_path / "x.png", {"model": {}, "data": {"prompts": [{"visual": "a"}]}} | change)
    assert rerun(tmp_path / "x.png", tmp_path) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert "--trust" not in err
    assert not (tmp_path / "again").exists()


def test_yaml_files_that_metadata_names_are_not_read(tmp_path, capsys):
    (tmp_path / "secret.yaml").write_text("class_path: GriffinLim\ninit_args: {iterations: 12345}\n")
    forge(tmp_path / "x.png", {"model": {"vocoder": "secret.yaml"}, "data": {"prompts": [{"visual": "a"}]}})
    assert rerun(tmp_path / "x.png", tmp_path) == 2
    assert "secret.yaml" in (err := capsys.readouterr().err)
    assert "12345" not in err


@pytest.mark.parametrize("arguments", [["--output", "x"], ["none.png"], ["x.gif"], ["x.png", "--config", "y.yaml"]])
def test_wrong_command_lines(arguments, capsys):
    assert main(["rerun", *arguments]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_without_a_file_it_says_how_to_use_it(capsys):
    assert main(["rerun", "--help"]) == 0
    assert "usage: its rerun FILE" in capsys.readouterr().out


def test_metadata_is_small_and_has_no_settings_of_the_run(config):
    made = run(config)[0]
    found = read_metadata(made / "spectrogram.png")
    assert len(json.dumps(found)) < 8000
    assert str(config.parent / "run") not in json.dumps(found)
    assert read_metadata(made / "audio.wav") == found


def test_a_record_from_before_the_modules_moved(config, tmp_path, capsys):
    """Older records name classes by modules that are elsewhere now."""
    made = run(config)[0]
    record = json.loads((made / "sample.json").read_text())
    assert record["config"]["model"]["scheduler"]["class_path"] == "DDIM"  # by name: modules may move again
    record["config"]["model"]["scheduler"]["class_path"] = "its_plugins.ddim.DDIM"
    (made / "sample.json").write_text(json.dumps(record))
    assert rerun(made / "sample.json", tmp_path) == 0
