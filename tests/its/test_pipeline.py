"""`its.Pipeline`, on tiny weights."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import its
from its.cli import main
from its.errors import UserError
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.schedulers.ddim import DDIM
from its_plugins.vocoders.hifi_gan import HiFiGAN

PROMPTS = {"visual": "castle towers", "audio": "bell ringing"}


@pytest.fixture(scope="module")
def pipe(write_config, tmp_path_factory):
    return its.Pipeline.from_config(write_config(tmp_path_factory.mktemp("pipe")), accelerator="cpu")


def records(run):
    return {path.parent.name: json.loads(path.read_text()) for path in run.glob("samples/*/sample.json")}


@pytest.mark.parametrize("precision", ["32-true", "bf16-true"])
def test_samples_equal_those_of_its_predict(config, tmp_path, precision):
    cpu = ["--trainer.accelerator=cpu", f"--trainer.precision={precision}"]
    assert main(["predict", "--config", str(config), "--save=[latents]", *cpu]) == 0
    run = Path(yaml.safe_load(config.read_text())["output"])
    pipe = its.Pipeline.from_config(config, accelerator="cpu", precision=precision, overrides={"save": ["latents"]})
    made = list(pipe.generate(progress=False))
    assert {sample.id for sample in made} == records(run).keys()
    for sample in made:
        sample.save(tmp_path / "saved" / sample.id, ["latents"])
        theirs, ours = run / "samples" / sample.id, tmp_path / "saved" / sample.id
        assert {path.name for path in theirs.iterdir()} == {path.name for path in ours.iterdir()}
        for name in ("latents.safetensors", "spectrogram.png", "audio.wav"):
            assert (theirs / name).read_bytes() == (ours / name).read_bytes(), name
        before, after = (json.loads((folder / "sample.json").read_text()) for folder in (theirs, ours))
        assert {**before, "timings": None} == {**after, "timings": None}


def test_a_sample_of_the_first_kind(pipe):
    sample = pipe("castle towers", "bell ringing", seed=7, progress=False)
    assert sample.prompts == PROMPTS
    assert sample.seed == 7
    assert sample.error is None
    assert sample.image.size == (96, 64)  # 32 columns are trimmed
    assert sample.spectrogram.shape == (64, 96)
    assert sample.spectrogram.dtype == np.float32
    waveform, rate = sample.audio
    assert (waveform.shape, waveform.dtype, rate) == ((96 * 160,), np.float32, 16000)
    assert sample.latents.shape == (4, 8, 16)
    assert sample.color is None
    assert sample.settings["steps"] == 6
    assert {"experts.visual", "experts.audio", "vocoder"} <= sample.weights.keys()
    assert np.array_equal(np.asarray(sample.image), (sample.spectrogram * 255).round().astype(np.uint8))


def test_own_material_by_call_and_by_row_is_the_same(pipe, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 96), dtype=np.uint8)).save(tmp_path / "own.png")
    Image.new("L", (96, 64), 255).save(tmp_path / "mask.png")
    own = {"start": {"image": tmp_path / "own.png", "strength": 0.5}, "keep": {"mask": tmp_path / "mask.png"}}
    sample = pipe("castle towers", "bell ringing", seed=1, progress=False, **own)
    (again,) = pipe.generate([PROMPTS | own], seeds=1, progress=False)
    assert sample.id == again.id
    assert np.array_equal(sample.spectrogram, again.spectrogram)
    assert sample.settings["start"]["strength"] == 0.5
    plain = pipe("castle towers", "bell ringing", seed=1, progress=False)
    assert plain.id != sample.id
    assert not np.allclose(plain.spectrogram, sample.spectrogram, atol=0.05)


def test_a_place_in_a_transition(pipe, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    to = {"visual": "dog", "seed": 9}
    begin, quarter, end = (
        pipe("castle towers", "bell ringing", seed=1, interpolate={"to": to, "fraction": x}, progress=False)
        for x in (0, 0.25, 1)
    )
    assert begin.id == pipe("castle towers", "bell ringing", seed=1, progress=False).id
    assert end.id == pipe("dog", "bell ringing", seed=9, progress=False).id
    assert quarter.settings["interpolate"]["fraction"] == 0.25
    with pytest.raises(UserError, match="several samples; expected a fraction"):
        pipe("castle towers", "bell ringing", interpolate={"to": to, "samples": 3}, progress=False)
    Image.new("L", (8, 8)).save("x.png")
    with pytest.raises(UserError, match="control: no expert has a control net"):
        pipe("castle towers", "bell ringing", control={"image": "x.png"}, progress=False)


def test_prompts_by_name_by_position_and_from_the_config_are_the_same(pipe):
    ids = {
        pipe("castle towers", "bell ringing", seed=1, progress=False).id,
        pipe(audio="bell ringing", visual="castle towers", seed=1, progress=False).id,
        pipe("castle towers", audio="bell ringing", seed=1, progress=False).id,
        pipe(progress=False).id,  # the config's first prompts and seed
    }
    assert len(ids) == 1


def test_scales_and_negative_prompts_of_a_call(pipe):
    plain = pipe(seed=1, progress=False)
    changed = pipe(seed=1, guidance_scale={"visual": 1.0}, negative_prompts={"audio": "noise"}, progress=False)
    assert changed.settings["guidance_scale"] == {**plain.settings["guidance_scale"], "visual": 1.0}
    assert changed.record["negative_prompts"] == {"visual": "", "audio": "noise"}
    assert not np.array_equal(changed.spectrogram, plain.spectrogram)


def test_samples_come_one_batch_after_the_other(pipe):
    steps = []
    made = pipe.generate([PROMPTS], seeds=range(3), batch_size=1, progress=False, on_step=steps.append)
    assert steps == []
    assert next(made).seed == 0
    assert [step.index for step in steps] == list(range(6))
    assert steps[-1].predict_clean().shape == (1, 4, 8, 16)
    assert [sample.seed for sample in made] == [1, 2]


def test_a_batch_changes_no_sample(pipe):
    together = list(pipe.generate([PROMPTS], seeds=[3, 4], batch_size=2, progress=False))
    alone = [pipe(**PROMPTS, seed=seed, progress=False) for seed in (3, 4)]
    for one, other in zip(together, alone, strict=True):
        assert one.id == other.id
        assert np.allclose(one.latents, other.latents, atol=1e-4)


def test_components_without_a_config(tiny, tmp_path):
    method = its.MultimodalDenoising(
        experts={
            "visual": StableDiffusion(weights=str(tiny / "sd")),
            "audio": Auffusion(weights=str(tiny / "auffusion")),
        },
        combiner=WarmStartAverage(t={"visual": 0.5, "audio": 1.0}),
        scheduler=DDIM(),
        vocoder=HiFiGAN(weights=str(tiny / "auffusion")),
        steps=3,
        canvas=(64, 128),
        trim=0,
    )
    pipe = its.Pipeline(method, accelerator="cpu")
    sample = pipe("castle towers", "bell ringing", seed=1, progress=False)
    folder = sample.save(tmp_path / "castle")
    again = ["rerun", str(folder / "audio.wav"), "--output", str(tmp_path / "again"), "--trainer.accelerator=cpu"]
    assert main(again) == 0
    (record,) = records(tmp_path / "again").values()
    assert record["id"] == sample.id
    assert (folder / "spectrogram.png").read_bytes() == next(
        tmp_path.glob("again/samples/*/spectrogram.png")
    ).read_bytes()


def test_a_packaged_config_with_overrides(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = {"model.steps": 1, "model.canvas": [256, 256]}
    pipe = its.Pipeline.from_config("castle_bell", overrides=small, accelerator="cpu")
    assert "using the embedded demo weights" in capsys.readouterr().err
    sample = pipe(progress=False)
    assert sample.settings["steps"] == 1
    assert all(weights["embedded"] for weights in sample.weights.values())
    assert "embedded demo weights" in sample._repr_html_()
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_shows_picture_and_sound_and_prompts_as_text(pipe):
    sample = pipe("<script>alert(1)</script>", "bell & tower", seed=1, progress=False)
    outer = sample._repr_html_()
    page = unescape(re.search(r'srcdoc="([^"]*)"', outer).group(1))
    assert "<script>alert" not in page
    assert "<script>alert" not in outer
    assert "&lt;script&gt;alert(1)" in page
    assert "data:image/png;base64," in page
    assert "data:audio/wav;base64," in page
    assert "http" not in page.replace("http-equiv", "")
    assert repr(sample).startswith("ImageThatSounds(")
    assert "visual='<script>alert(1)</script>'" in repr(sample)


def test_a_failed_sample_does_not_stop_the_others(write_config, tmp_path, monkeypatch):
    pipe = its.Pipeline.from_config(write_config(tmp_path), accelerator="cpu")
    real = pipe.method.make

    def make(specs):
        if any(spec.seed == 2 for spec in specs):
            raise ValueError("no such bell")
        return real(specs)

    monkeypatch.setattr(pipe.method, "make", make)
    good, bad = pipe.generate([PROMPTS], seeds=[1, 2], batch_size=2, progress=False)
    assert good.image.size == (96, 64)
    assert "no such bell" in bad.error
    assert bad._repr_html_() is None
    for use in (lambda: bad.image, lambda: bad.save(tmp_path / "bad"), lambda: pipe(seed=2, progress=False)):
        with pytest.raises(its.SampleFailed, match="no such bell"):
            use()
    assert not (tmp_path / "bad").exists()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda pipe: pipe("a", "b", "c"), "3 prompts.*visual, audio"),
        (lambda pipe: pipe("a", visual="b", audio="c"), "two prompts for visual"),
        (lambda pipe: pipe("a", "b", steps=3), "argument steps.*overrides of from_config"),
        (lambda pipe: pipe("a"), "a prompt for visual; expected one prompt for each"),
        (lambda pipe: pipe(visuel="a", audio="b"), "argument visuel; expected one prompt for each of visual, audio"),
        (lambda pipe: pipe(seed=-1), "-1.*0 to"),
        (lambda pipe: pipe.generate([]), "no prompts"),
        (lambda pipe: pipe.generate(seeds=[]), "seeds are empty"),
        (lambda pipe: pipe.generate("nowhere.jsonl"), "nowhere.jsonl"),
        (lambda pipe: pipe.generate(batch_size=0), "batch_size is 0"),
    ],
)
def test_wrong_calls(call, said, pipe):
    with pytest.raises(UserError, match=said):
        call(pipe)


@pytest.mark.parametrize("extras", [["colour"], ["color"]])
def test_extras_that_a_sample_lacks(extras, pipe, tmp_path):
    with pytest.raises(ValueError, match=extras[0]):
        pipe(seed=1, progress=False).save(tmp_path / "x", extras)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"overrides": {"model.stepss": 5}}, "stepss.*overrides|overrides.*stepss"),
        ({"overrides": {"model.steps": "many"}}, "many"),
        ({"accelerator": "gpux"}, "gpux"),
        ({"precision": "12-true"}, "12-true"),
    ],
)
def test_wrong_configs(arguments, said, config):
    with pytest.raises(UserError, match=said):
        its.Pipeline.from_config(config, **arguments)


def test_a_config_that_does_not_exist():
    with pytest.raises(UserError, match="Did you mean castle_bell"):
        its.Pipeline.from_config("castle_bel")


def test_score_distillation_has_gradients(write_config, tmp_path):
    overlay = tmp_path / "sds.yaml"
    overlay.write_text(
        yaml.safe_dump({"method": "ScoreDistillation", "model": {"iterations": 2, "canvas": [64, 64], "trim": 0}})
    )
    pipe = its.Pipeline.from_config(write_config(tmp_path), overlay, accelerator="cpu")
    assert pipe(seed=1, progress=False).image.size == (64, 64)
    assert not torch.is_inference_mode_enabled()


def test_errors_of_a_callback_end_the_call_and_are_not_repeated(pipe):
    calls = []

    def cancel(step):
        calls.append(step.index)
        raise KeyError("cancelled")

    with pytest.raises(KeyError, match="cancelled"):
        list(pipe.generate([PROMPTS], seeds=range(4), batch_size=4, progress=False, on_step=cancel))
    assert calls == [0]
    assert pipe.method.on_step is None
    assert pipe(seed=1, progress=False).error is None


def test_threads_get_their_own_callbacks(pipe):
    def steps(seed):
        seen = []
        sample = pipe(seed=seed, progress=False, on_step=lambda step: seen.append(step.index))
        return sample.seed, seen

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(steps, [5, 6])) == [(5, list(range(6))), (6, list(range(6)))]


def test_values_for_all_experts(pipe):
    sample = pipe(seed=1, guidance_scale=2.0, negative_prompts="noise", progress=False)
    assert sample.settings["guidance_scale"] == {"visual": 2.0, "audio": 2.0}
    assert sample.record["negative_prompts"] == {"visual": "noise", "audio": "noise"}


@pytest.mark.parametrize("seeds", [np.int64(2), [np.int32(2)], iter([2]), {"start": 2, "count": 1}, range(2, 3), 2])
def test_seeds_in_all_forms(seeds, pipe):
    assert [sample.seed for sample in pipe.generate(iter([PROMPTS]), seeds=seeds, progress=False)] == [2]


@pytest.mark.parametrize("seeds", [1.7, [1.9], True, "12", [[1]], {"begin": 1}])
def test_seeds_that_are_no_whole_numbers(seeds, pipe):
    with pytest.raises(UserError, match="expected whole numbers"):
        pipe.generate(seeds=seeds)


def test_sweeps_metadata_and_arguments_of_configs(write_config, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("{data: {sweep: {steps: [2, 3]}}, metadata: false, trainer: {accelerator: gpu}}")
    config = write_config(tmp_path)
    overrides = {"data.guidance_scale": {"visual": np.float32(2.0), "audio": 3}, "data.seeds": range(4, 5)}
    pipe = its.Pipeline.from_config(config, str(overlay), accelerator="cpu", overrides=overrides)
    samples = list(pipe.generate(progress=False))
    assert [(sample.seed, sample.settings["steps"]) for sample in samples] == [(4, 2), (4, 3)]
    assert samples[0].settings["guidance_scale"] == {"visual": 2.0, "audio": 3.0}
    assert b"castle" not in (samples[0].save(tmp_path / "x") / "spectrogram.png").read_bytes()
    samples[0].weights["experts.visual"]["name"] = "changed"
    assert samples[1].weights["experts.visual"]["name"] != "changed"


def test_samples_can_be_compared_and_collected(pipe):
    first, second = pipe(seed=1, progress=False), pipe(seed=1, progress=False)
    assert first != second
    assert first in {first, second}


@pytest.mark.parametrize(
    "call",
    [
        lambda: its.Pipeline("castle_bell"),
        lambda: its.Pipeline.from_config(["castle_bell"]),
        lambda: its.Pipeline.from_config(None),
        lambda: its.Pipeline.from_config("castle_bell", overrides="model.steps=4"),
        lambda: its.Pipeline.from_config("castle_bell", overrides={1: 2}),
    ],
)
def test_arguments_of_wrong_types(call):
    with pytest.raises(TypeError, match=r"got|expected"):
        call()


def test_names_are_found_after_a_plain_import():
    code = "import its; its.errors.UserError is its.UserError or exit(1); its.weights.WeightsNotFound; its.registry"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_home_folder_in_paths(pipe, write_config, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_config(tmp_path)
    assert its.Pipeline.from_config("~/config.yaml", accelerator="cpu").experts == ["visual", "audio"]
    assert pipe(seed=1, progress=False).save("~/castle") == tmp_path / "castle"
    (tmp_path / "file").write_text("")
    for folder in ("~/file/x", " "):
        with pytest.raises(UserError):
            pipe(seed=1, progress=False).save(folder)
