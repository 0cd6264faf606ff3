import json
import math
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from PIL import Image
from tiny_method import make

from its.audio.spectrogram import AUFFUSION
from its.cli import main
from its.errors import UserError
from its.interfaces import Colorizer
from its.methods.imprint import Imprint, imprint
from its.specs.prompts import PromptGrid
from its.specs.spec import SampleSpec
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.random_weights.stable_diffusion import SCHEDULER
from its_plugins.schedulers.ddim import DDIM
from its_plugins.vocoders.hifi_gan import HiFiGAN

ROOT = Path(__file__).parents[3]
PROMPTS = {"visual": "castle towers", "audio": "bell ringing"}


def row(seed=1, settings=None, prompts=PROMPTS, files=None) -> SampleSpec:
    return SampleSpec(
        prompts=prompts,
        negative_prompts={"visual": "", "audio": ""},
        guidance_scale={"visual": 7.5, "audio": 7.5},
        seed=seed,
        settings=settings or {},
        files=files or {},
        source="test",
    )


def method(tiny, *, load=True, **changes) -> Imprint:
    arguments = {
        "experts": {
            "visual": StableDiffusion(weights=str(tiny / "sd")),
            "audio": Auffusion(weights=str(tiny / "auffusion")),
        },
        "scheduler": DDIM(),
        "vocoder": HiFiGAN(weights=str(tiny / "auffusion")),
        "steps": {"visual": 3, "audio": 5},
        "canvas": (64, 128),
    }
    model = Imprint(**{**arguments, **changes})
    if load:
        model.prepare()
        model.configure_model()
    return model


def test_the_formula_where_silence_is_black():
    spectrogram, picture = torch.rand(2, 1, 4, 5), torch.rand(2, 3, 4, 5)
    x = imprint(spectrogram, picture, rho=0.3, silence=0)
    torch.testing.assert_close(x, spectrogram * (1 - 0.3 * (1 - picture).mean(1, keepdim=True)))
    assert torch.equal(imprint(spectrogram, torch.ones_like(picture), rho=1.0, silence=0), spectrogram)


def test_where_silence_is_white_the_negative_of_all_is_the_negative():
    spectrogram, picture = torch.rand(2, 1, 4, 5), torch.rand(2, 3, 4, 5)
    black = imprint(spectrogram, picture, rho=0.3, silence=0)
    white = imprint(1 - spectrogram, 1 - picture, rho=0.3, silence=1)
    torch.testing.assert_close(white, 1 - black)


@torch.inference_mode()
def authors_program(tiny, *, seed, steps, scale, rho, dtype):
    """Generate picture and spectrogram from one generator, and multiply the spectrogram by the mask."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    generator = torch.manual_seed(seed)
    gray = {}
    for name, prompt in zip(("sd", "auffusion"), PROMPTS.values(), strict=True):
        pipe = StableDiffusionPipeline.from_pretrained(tiny / name)
        texts = torch.cat(
            [
                pipe.text_encoder(
                    pipe.tokenizer(p, padding="max_length", max_length=77, return_tensors="pt").input_ids
                )[0]
                for p in ("", prompt)
            ]
        )
        scheduler = DDIMScheduler(**{k: v for k, v in SCHEDULER.items() if k != "_class_name"})
        scheduler.set_timesteps(steps[name])
        z = torch.randn((1, 4, 8, 16), generator=generator, dtype=dtype).float()
        for t in scheduler.timesteps:
            null, text = pipe.unet(torch.cat([z, z]), t, encoder_hidden_states=texts).sample.chunk(2)
            z = scheduler.step(null + scale * (text - null), t, z).prev_sample
        decoded = pipe.vae.decode(z / pipe.vae.config.scaling_factor).sample
        gray[name] = (decoded / 2 + 0.5).clamp(0, 1).mean(1)
    mask = 1 - rho * (1 - gray["sd"])
    return mask * gray["auffusion"]


@pytest.mark.parametrize(
    ("steps", "dtype"),
    [({"sd": 50, "auffusion": 100}, torch.float32), ({"sd": 4, "auffusion": 3}, torch.float16)],
)
def test_equals_the_authors_program(tiny, steps, dtype):
    model = method(
        tiny,
        steps={"visual": steps["sd"], "audio": steps["auffusion"]},
        noise_dtype=str(dtype).removeprefix("torch."),
    )
    (ours,) = make(model, row(seed=1234))
    gray = authors_program(tiny, seed=1234, steps=steps, scale=7.5, rho=0.5, dtype=dtype)
    torch.testing.assert_close(ours.spectrogram, gray[0, :, :-32], rtol=0, atol=1e-4)
    log_mel = gray.flip(1) * (math.log(200.0) - math.log(1e-5)) + math.log(1e-5)
    waveform = model.post_process.vocoder.generator(log_mel).reshape(-1)[: -32 * 160]
    torch.testing.assert_close(ours.waveform, waveform, rtol=0, atol=1e-4)
    # The picture in colour is the imprint as well, not its input.
    torch.testing.assert_close(ours.picture.mean(0), ours.spectrogram, rtol=0, atol=1e-6)
    assert ours.latents is None


def test_rows_of_other_rho_share_a_batch_and_equal_runs_with_that_rho(tiny):
    model = method(tiny)
    rows = [row(seed=1), row(seed=2, settings={"rho": 1})]
    assert model.batch_key(rows[0]) == model.batch_key(rows[1])
    together = make(model, *rows)
    (alone,) = make(method(tiny, rho=1.0), row(seed=2))
    torch.testing.assert_close(together[1].spectrogram, alone.spectrogram, rtol=0, atol=1e-5)
    assert model.definition(rows[1]) == method(tiny, rho=1.0).definition(row())


def test_a_sweep_over_steps(tiny):
    model = method(tiny)
    swept = row(settings={"steps.visual": 2})
    assert model.settings(swept)["steps"] == {"visual": 2, "audio": 5}
    assert model.settings(row(settings={"steps": 4}))["steps"] == {"visual": 4, "audio": 4}
    assert model.batch_key(swept) != model.batch_key(row())
    for settings, message in (
        ({"rhoo": 1.0}, r"no setting rhoo to sweep over. Did you mean rho\?"),
        ({"rho": 2.0}, "model.rho is 2; expected 0"),
        ({"steps.visuel": 2}, "steps.visuel: expected one of visual, audio. Did you mean visual"),
        ({"steps": 0}, "steps is 0; expected an integer"),
        ({"combiner": "WarmStartAverage"}, "no setting combiner"),
    ):
        with pytest.raises(UserError, match=message):
            model.settings(row(settings=settings))


def test_progress_counts_both_processes_as_one(tiny):
    model, calls = method(tiny), []
    model.on_step = lambda step, samples: calls.append((step.index, step.steps, samples))
    make(model, row(seed=1), row(seed=2))
    assert calls == [(index, 8, 2) for index in range(8)]


def test_a_colorizer_gets_the_imprint_and_the_pictures_prompt(tiny, own):
    class Tint(Colorizer):
        def forward(self, gray, prompts, generators):
            assert {*prompts} < {"a colorful photo of a wall", "a colorful photo of castle towers"}
            return gray + torch.tensor([-0.1, 0.0, 0.1]).reshape(1, 3, 1, 1)

    model = method(tiny, colorizer=Tint())
    (wall,) = rows_of({"visual": {"image": str(own / "half.png"), "prompt": "a wall"}, "audio": "bell ringing"})
    samples = model.predict_step([wall, row()])
    assert [sample.error for sample in samples] == [None, None], [sample.traceback for sample in samples]
    for sample in samples:
        torch.testing.assert_close(sample.result.color.mean(0), sample.result.spectrogram, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": {"a": StableDiffusion(), "b": StableDiffusion()}}, "one for spectrograms, got a: pictures"),
        ({"steps": {"visual": 3}}, "model.steps has no value for audio"),
        ({"steps": {"visual": 3, "audio": 0}}, "model.steps of audio is 0"),
        ({"steps": {"visual": 3, "audio": 3, "adio": 3}}, "model.steps .*adio.*Did you mean audio"),
        ({"rho": -0.1}, "model.rho is -0.1"),
    ],
)
def test_arguments_that_make_no_sense(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        method(tiny, load=False, **changes)


@pytest.fixture
def own(tmp_path):
    """A picture with a white left and a black right half, and one second of a 440 Hz tone."""
    pixels = np.zeros((64, 128, 3), np.uint8)
    pixels[:, :64] = 255
    Image.fromarray(pixels).save(tmp_path / "half.png")
    time = np.arange(44_100) / 44_100
    soundfile.write(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 440 * time), 44_100)
    return tmp_path


def rows_of(*entries):
    return PromptGrid(prompts=list(entries), seeds=[1]).expand(["visual", "audio"])


def test_a_picture_of_ones_own_takes_energy_where_it_is_black(tiny, own):
    model = method(tiny)
    (half,) = make(model, *rows_of({"visual": {"image": str(own / "half.png")}, "audio": "bell ringing"}))
    white = own / "white.png"
    Image.new("RGB", (128, 64), "white").save(white)
    (whole,) = make(model, *rows_of({"visual": {"image": str(white)}, "audio": "bell ringing"}))
    torch.testing.assert_close(half.spectrogram[:, :64], whole.spectrogram[:, :64], rtol=0, atol=1e-6)
    torch.testing.assert_close(half.spectrogram[:, 64:], whole.spectrogram[:, 64:] / 2, rtol=0, atol=1e-6)


def test_the_sound_of_a_seed_is_the_same_under_any_picture(tiny, own):
    (with_file,) = make(method(tiny, rho=0.0), *rows_of({"visual": {"image": str(own / "half.png")}, "audio": "bell"}))
    (with_prompt,) = make(method(tiny, rho=0.0), *rows_of({"visual": "castle", "audio": "bell"}))
    torch.testing.assert_close(with_file.spectrogram, with_prompt.spectrogram, rtol=0, atol=1e-5)


def test_a_sound_of_ones_own_is_drawn_as_its_spectrogram(tiny, own):
    model = method(tiny, rho=0.0)
    files = {"visual": {"image": str(own / "half.png")}, "audio": {"audio": str(own / "tone.wav")}}
    (made,) = make(model, *rows_of(files))
    loudest = made.spectrogram[:, :80].mean(1).argmax()  # a second of 16 kHz is 100 columns
    form = model.post_process.vocoder.format
    bank = form.filterbank()
    hertz = bank[:, form.n_mels - 1 - loudest].argmax() * form.sample_rate / form.n_fft
    assert abs(hertz - 440) < 60
    assert AUFFUSION.sample_rate == form.sample_rate


def test_the_id_depends_on_a_files_content_and_not_on_its_path(tiny, own):
    model = method(tiny)
    (tmp := own / "elsewhere").mkdir()
    (tmp / "half.png").write_bytes((own / "half.png").read_bytes())
    first, moved = (rows_of({"visual": {"image": str(f / "half.png")}, "audio": "bell"})[0] for f in (own, tmp))
    assert model.definition(first) == model.definition(moved)
    assert first.prompts == {"visual": "half", "audio": "bell"}
    Image.new("RGB", (128, 64), "gray").save(tmp / "half.png")
    (other,) = rows_of({"visual": {"image": str(tmp / "half.png")}, "audio": "bell"})
    assert model.definition(other) != model.definition(first)


def test_a_file_of_the_wrong_kind_and_one_that_changed(tiny, own):
    model = method(tiny)
    (wrong,) = rows_of({"visual": "castle", "audio": {"image": str(own / "half.png")}})
    with pytest.raises(UserError, match=r"row 1: audio is \{image: .*expected a prompt or \{audio: FILE\}"):
        model.definition(wrong)
    (changed,) = rows_of({"visual": {"image": str(own / "half.png")}, "audio": "bell"})
    Image.new("RGB", (128, 64), "gray").save(own / "half.png")
    (sample,) = model.predict_step([changed])
    assert "has changed since the run began" in sample.error


def predict(config, *arguments):
    overlay = ROOT / "configs/methods/imprint.yaml"
    few = ["--model.steps.visual=2", "--model.steps.audio=3"]
    return main(["predict", "--config", str(config), "--config", str(overlay), *few, *map(str, arguments)])


def folders(config):
    return sorted((Path(yaml.safe_load(config.read_text())["output"]) / "samples").iterdir())


def test_the_config_makes_a_run_folder_like_any_other_and_goes_on(config, capsys):
    assert predict(config, "--save=[image]") == 0
    for folder in folders(config):
        assert {p.name for p in folder.iterdir()} == {"spectrogram.png", "audio.wav", "image.png", "sample.json"}
        settings = json.loads((folder / "sample.json").read_text())["settings"]
        assert settings["method"] == "imprint"
        assert settings["rho"] == 0.5
        assert settings["steps"] == {"visual": 2, "audio": 3}
        assert settings["guidance_scale"] == {"visual": 7.5, "audio": 7.5}
    (folders(config)[1] / "sample.json").unlink()
    capsys.readouterr()
    assert predict(config, "--save=[image]") == 0
    assert "2 of 2 images that sound" in (out := capsys.readouterr().out)
    assert "1 of them from an earlier run" in out


def test_files_from_a_file_of_prompts_lie_beside_it(config, own):
    (own / "rows.jsonl").write_text(
        json.dumps({"visual": {"image": "half.png", "prompt": "a wall"}, "audio": "bell", "seed": 3})
    )
    (own / "rows.csv").write_text("visual.image,audio,seed\nhalf.png,bell,4\n")
    for name in ("rows.jsonl", "rows.csv"):
        assert predict(config, f"--data.prompts={own / name}") == 0
    records = [json.loads((folder / "sample.json").read_text()) for folder in folders(config)]
    assert {record["prompts"]["visual"] for record in records} == {"a wall", "half"}
    assert all(record["settings"]["files"]["visual"]["image"].startswith("sha256:") for record in records)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--save=[latents]"], "save contains latents, but Imprint"),
        (["--model.rho=2"], "model.rho is 2"),
        (["--model.steps.smell=2"], "model.steps .*smell"),
        (
            ["--data.prompts=[{visual: {image: nowhere.png}, audio: bell}]"],
            "row 1: visual: the image nowhere.png can't",
        ),
        (["--data.prompts=[{visual: {imgae: x.png}, audio: bell}]"], "unknown key imgae.*Did you mean image"),
        (["--data.sweep={rhoo: [0.5]}"], "no setting rhoo"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(config, arguments, message, capsys):
    import re

    assert predict(config, *arguments) == 2
    err = capsys.readouterr().err
    assert re.search(message, err)
    assert "Traceback" not in err
    assert not (config.parent / "run").exists()


def test_other_methods_take_no_files(config, own, capsys):
    prompts = f"--data.prompts=[{{visual: {{image: {own / 'half.png'}}}, audio: bell}}]"
    assert main(["predict", "--config", str(config), prompts]) == 2
    assert "row 1: visual is a file, but MultimodalDenoising supports only prompts" in capsys.readouterr().err
