import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import constants
from PIL import Image

from its.cli import main
from its.errors import UserError
from its.media.metadata import read_metadata
from its.runs.records import read_record
from its_plugins.random_weights import deepfloyd_if as random_weights_if


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("if")
    return str(random_weights_if.deepfloyd_if(folder / "one")), str(
        random_weights_if.deepfloyd_if_upscaler(folder / "two")
    )


@pytest.fixture
def overlay(stages, tmp_path):
    expert = {"class_path": "DeepFloydIF", "init_args": {"weights": stages[0], "variant": None}}
    upscaler = {"class_path": "DeepFloydIFUpscaler", "init_args": {"weights": stages[1], "variant": None}}
    arguments = {"expert": expert, "upscaler": upscaler, "steps": 3, "start": 1}
    path = tmp_path / "colorize.yaml"
    path.write_text(
        yaml.safe_dump({"model": {"colorizer": {"class_path": "FactorizedDiffusion", "init_args": arguments}}})
    )
    return path


@pytest.fixture(scope="module")
def made(write_config, tmp_path_factory):
    """A run of two samples, without colours; treat as immutable."""
    folder = tmp_path_factory.mktemp("made")
    assert main(["predict", "--config", str(write_config(folder)), "--output", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def run(made, tmp_path):
    """A copy of a run of two samples, without colours."""
    return Path(shutil.copytree(made, tmp_path / "run"))


def pixels(path):
    return np.asarray(Image.open(path), dtype=np.int32)


def folders(run):
    return sorted((run / "samples").iterdir())


def check_colors(folder, name="color.png"):
    rgb, gray = pixels(folder / name), pixels(folder / "spectrogram.png")
    assert np.abs(rgb - rgb.mean(-1, keepdims=True)).max() > 5, "no colour"
    assert np.abs(rgb.mean(-1) - gray).max() <= 1
    return rgb


def test_predict_with_a_colorizer(config, overlay, tmp_path):
    assert main(["predict", "--config", str(config), "--config", str(overlay)]) == 0
    for folder in folders(tmp_path / "run"):
        check_colors(folder)
        record = read_record(folder)
        assert record["settings"]["colorizer"]["prompt"] == "a colorful photo of castle towers"
        assert record["settings"]["colorizer"]["expert"]["class"] == "DeepFloydIF"
        assert "weights" not in json.dumps(record["settings"]["colorizer"])  # where they lie is not what they are
        assert " + " in record["weights"]["colorizer"]["sha256"]


def test_colors_of_a_run(run, overlay, capsys):
    before = [(f / "spectrogram.png").read_bytes() + (f / "audio.wav").read_bytes() for f in folders(run)]
    assert main(["colorize", str(run), "--config", str(overlay)]) == 0
    assert "2 of 2 samples" in capsys.readouterr().out
    one, two = (check_colors(folder) for folder in folders(run))
    assert (one != two).any()
    assert before == [(f / "spectrogram.png").read_bytes() + (f / "audio.wav").read_bytes() for f in folders(run)]
    record = read_record(folders(run)[0])
    assert record["status"] == "ok"
    assert record["settings"]["colorizer"]["prompt"] == "a colorful photo of castle towers"
    assert "sha256" in record["weights"]["colorizer"]
    assert not list(run.rglob("*.partial"))


def test_again_makes_nothing_and_more_makes_only_those(run, overlay, monkeypatch):
    from its_plugins.colorizers.factorized_diffusion import FactorizedDiffusion

    made, forward = [], FactorizedDiffusion.forward

    def counted(self, gray, prompts, generators):
        made.append(len(gray))
        return forward(self, gray, prompts, generators)

    monkeypatch.setattr(FactorizedDiffusion, "forward", counted)
    command = ["colorize", str(run), "--config", str(overlay), "--batch_size", "2"]
    assert main(command) == 0
    first = (folders(run)[0] / "color.png").read_bytes()
    assert main(command) == 0
    assert made == [2]
    assert main([*command, "--count", "2"]) == 0
    assert made == [2, 2]
    assert (folders(run)[0] / "color.png").read_bytes() == first
    for folder in folders(run):
        assert (check_colors(folder) != check_colors(folder, "color_2.png")).any()


def test_another_prompt_makes_them_anew(run, overlay):
    command = ["colorize", str(run), "--config", str(overlay)]
    assert main([*command, "--count", "2"]) == 0
    first = (folders(run)[0] / "color.png").read_bytes()
    assert main([*command, "--prompt", "a colorful photo of a dog barking"]) == 0
    assert (folders(run)[0] / "color.png").read_bytes() != first
    assert not (folders(run)[0] / "color_2.png").exists()  # the record would lie about it
    assert read_record(folders(run)[0])["settings"]["colorizer"]["prompt"] == "a colorful photo of a dog barking"


def videos(folder):
    return sorted(path.name for path in folder.glob("*.mp4"))


def length(path):
    """Frames of the picture, and seconds of the sound."""
    import av

    with av.open(str(path)) as container:
        audio = container.streams.audio[0]
        return sum(1 for _ in container.decode(video=0)), float(audio.duration * audio.time_base)


def test_every_picture_gets_a_video_where_asked_for(run, overlay, capsys):
    command = ["colorize", str(run), "--config", str(overlay), "--count", "2"]
    assert main(command) == 0
    assert all(videos(folder) == [] for folder in folders(run))
    assert main([*command, "--video"]) == 0
    assert "2 of 2 samples" in (said := capsys.readouterr().out)
    assert said.endswith("have colour pictures and videos\n")
    for folder in folders(run):
        assert videos(folder) == ["color.mp4", "color_2.mp4"]
        shown, heard = length(folder / "color_2.mp4")
        assert (shown, heard) == (pytest.approx(30 * 0.96, abs=1), pytest.approx(0.96, abs=0.1))
        assert read_metadata(folder / "color_2.mp4")["id"] == read_record(folder)["id"]
        assert read_metadata(folder / "color_2.mp4")["settings"]["colorizer"]["prompt"].startswith("a colorful photo")


def test_a_picture_made_anew_loses_its_old_video(run, overlay):
    command = ["colorize", str(run), "--config", str(overlay)]
    assert main([*command, "--count", "2", "--video"]) == 0
    assert main([*command, "--prompt", "a colorful photo of a dog barking"]) == 0
    assert all(videos(folder) == [] for folder in folders(run))


def test_a_run_that_saves_videos_gets_them_for_its_colours_too(config, overlay, tmp_path):
    run = tmp_path / "run"
    more = ["--save=[video]", "--metadata=false"]
    assert main(["predict", "--config", str(config), "--config", str(overlay), *more]) == 0
    assert all(videos(folder) == ["color.mp4", "video.mp4"] for folder in folders(run))
    assert main(["colorize", str(run), "--count", "2"]) == 0
    for folder in folders(run):
        assert videos(folder) == ["color.mp4", "color_2.mp4", "video.mp4"]
        for name in ("color.mp4", "color_2.mp4"):
            with pytest.raises(UserError, match="has no metadata"):
                read_metadata(folder / name)


def test_a_video_that_fails_leaves_the_others(run, overlay, capsys):
    command = ["colorize", str(run), "--config", str(overlay)]
    assert main(command) == 0
    (folders(run)[0] / "audio.wav").write_bytes(b"no sound")
    assert main([*command, "--video"]) == 1
    captured = capsys.readouterr()
    assert "1 of 2 samples" in captured.out
    assert f"its: failed: {folders(run)[0].name}: UserError" in captured.err
    assert videos(folders(run)[1]) == ["color.mp4"]


def test_a_sample_s_colors_do_not_depend_on_the_others(run, overlay, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    shutil.rmtree(folders(copy)[0])
    for folder, size in ((run, "2"), (copy, "1")):
        assert main(["colorize", str(folder), "--config", str(overlay), "--batch_size", size]) == 0
    difference = pixels(folders(run)[1] / "color.png") - pixels(folders(copy)[0] / "color.png")
    assert np.abs(difference).max() <= 1  # rounding of another batch size


def test_the_run_s_own_colorizer_and_keys_of_the_command_line(config, overlay, tmp_path):
    run = tmp_path / "run"
    assert main(["predict", "--config", str(config), "--config", str(overlay)]) == 0
    key = "--model.colorizer.init_args.guidance_scale"
    assert main(["colorize", str(run), key, "2.5"]) == 0
    colorizer = read_record(folders(run)[0])["settings"]["colorizer"]
    assert (colorizer["guidance_scale"], colorizer["steps"]) == (2.5, 3)


def test_a_sample_that_fails_leaves_the_others_and_its_record(run, overlay, monkeypatch, capsys):
    from its_plugins.colorizers.factorized_diffusion import FactorizedDiffusion

    forward = FactorizedDiffusion.forward
    calls = []

    def breaking(self, *arguments):
        calls.append(0)
        if len(calls) == 1:
            raise RuntimeError("the model is tired")
        return forward(self, *arguments)

    monkeypatch.setattr(FactorizedDiffusion, "forward", breaking)
    assert main(["colorize", str(run), "--config", str(overlay)]) == 1
    captured = capsys.readouterr()
    assert "1 of 2 samples" in captured.out
    assert "RuntimeError: the model is tired" in captured.err
    assert read_record(folders(run)[0])["settings"]["colorizer"] is None
    check_colors(folders(run)[1])


def refused(capsys, *command):
    assert main(list(command)) == 2
    message = capsys.readouterr().err
    assert message.startswith("its: ")
    assert "Traceback" not in message
    return message


def test_wrong_input_is_one_message(run, overlay, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bare" / "samples").mkdir(parents=True)
    assert "has no folder samples" in refused(capsys, "colorize", str(tmp_path / "empty"))
    assert "has no samples" in refused(capsys, "colorize", str(tmp_path / "bare"))
    assert "has no colorizer: name one" in refused(capsys, "colorize", str(run))
    assert "unknown option --model.steps" in refused(capsys, "colorize", str(run), "--model.steps", "3")
    assert "expected 1 or more" in refused(capsys, "colorize", str(run), "--count", "0")
    missing = refused(capsys, "colorize", str(run), "--config", str(overlay), "--model.colorizer.init_args.stepz", "3")
    assert "stepz" in missing
    name = ("--model.colorizer", "Colourizer")
    assert "registered for Colorizer" in refused(capsys, "colorize", str(run), *name)
    gone = ("--model.colorizer.init_args.upscaler.init_args.weights", str(tmp_path / "nowhere"))
    assert "nowhere is neither a folder" in refused(capsys, "colorize", str(run), "--config", str(overlay), *gone)


def test_a_picture_of_the_wrong_size_is_one_message_and_nothing_is_made(run, overlay, capsys):
    Image.new("L", (100, 64)).save(folders(run)[1] / "spectrogram.png")
    message = refused(capsys, "colorize", str(run), "--config", str(overlay))
    assert "has 64 rows and 100 columns; expected 64 and 96" in message
    assert not (folders(run)[0] / "color.png").exists()


def test_a_colorizer_needs_a_prompt_of_something_to_see(config, overlay, capsys, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"visual": "grayscale, black background", "audio": "bell ringing"}))
    message = refused(capsys, "predict", "--config", str(config), "--config", str(overlay), "--data.prompts", str(data))
    assert "no colour prompt can be derived from 'grayscale, black background'" in message
    assert "rows.jsonl" in message


def test_a_colorizer_needs_an_expert_that_draws_pictures(config, overlay, capsys):
    only = (
        "--model.experts.visual",
        "null",
        "--model.combiner.t.visual",
        "null",
        "--data.guidance_scale.visual",
        "null",
    )
    sound = ("--data.prompts", '[{"audio": "bell ringing"}]')
    message = refused(capsys, "predict", "--config", str(config), "--config", str(overlay), *only, *sound)
    assert "model.colorizer" in message
    assert "needs an image prompt" in message


def test_the_pack_s_colorizer_takes_its_place_where_one_is_asked_for(run, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    command = ["colorize", str(run), "--config", "configs/colorize.yaml"]
    steps = ("--model.fallback", "mini")
    message = refused(capsys, *command)
    assert "DeepFloyd/IF-I-M-v1.0 is not on this machine" in message
    assert main([*command, *steps]) == 0
    (warned,) = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    assert "DeepFloyd/IF-I-M-v1.0 is not on this machine" in warned
    assert "mini" in warned
    assert read_record(folders(run)[0])["weights"]["colorizer"]["embedded"] is True


def test_the_document_s_commands_are_understood(run, overlay, capsys):
    """Those of docs/colorization.md, on this run and with tiny weights."""
    text = (Path(__file__).parents[3] / "docs" / "colorization.md").read_text(encoding="utf-8")
    commands = re.findall(r"^its colorize runs/castle_bell --config colorize *(.*?) *(?:#.*)?$", text, re.M)
    assert len(commands) == 2
    for command in commands:
        assert main(["colorize", str(run), "--config", str(overlay), *shlex.split(command)]) == 0
    assert (folders(run)[0] / "color_4.png").exists()
