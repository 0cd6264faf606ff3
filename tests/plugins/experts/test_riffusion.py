"""Riffusion with Stable Diffusion on tiny random weights, from prompts to files."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from its.audio.spectrogram import AUFFUSION
from its.errors import UserError
from its.methods.denoising import MultimodalDenoising
from its.runs.sample_files import write_sample
from its.specs.spec import SampleSpec
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.riffusion import RIFFUSION, RIFFUSION_STEREO, Riffusion
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.schedulers.ddim import DDIM
from its_plugins.vocoders.griffin_lim import GriffinLim
from its_plugins.vocoders.hifi_gan import HiFiGAN

SPEC = SampleSpec(
    prompts={"visual": "castle towers", "audio": "bell ringing"},
    negative_prompts={"visual": "", "audio": ""},
    guidance_scale={"visual": 3.0, "audio": 3.0},
    seed=1,
    source="test",
)


def method(tiny, *, stereo=False, **changes):
    arguments = {
        "experts": {
            "visual": StableDiffusion(weights=str(tiny / "sd")),
            "audio": Riffusion(weights=str(tiny / "auffusion"), stereo=stereo),
        },
        "combiner": WarmStartAverage(t={"visual": 0.5, "audio": 1.0}),
        "scheduler": DDIM(),
        "vocoder": GriffinLim(iterations=1),
        "steps": 2,
        "canvas": (512, 24),
        "trim": 4,
    }
    return MultimodalDenoising(**{**arguments, **changes})


def made(model):
    model.prepare()
    model.configure_model()
    with torch.inference_mode():
        (sample,) = model.predict_step([SPEC])
    assert sample.error is None
    return sample


def test_it_draws_its_own_format_in_the_latent_space_of_stable_diffusion(tiny):
    found, visual = Riffusion(weights=str(tiny / "auffusion")), StableDiffusion(weights=str(tiny / "sd"))
    found.find()
    visual.find()
    assert found.latent_space == visual.latent_space
    audio = Riffusion()
    assert audio.format == RIFFUSION
    assert Riffusion(stereo=True).format == RIFFUSION_STEREO
    assert audio.weights == "riffusion/riffusion-model-v1"
    assert audio.describe()["stereo"] is False


def test_the_format_is_that_of_its_authors():
    milliseconds = {"hop_length": 10, "win_length": 100, "n_fft": 400}
    assert {key: getattr(RIFFUSION, key) * 1000 / 44100 for key in milliseconds} == milliseconds
    assert (RIFFUSION.n_mels, RIFFUSION.f_min, RIFFUSION.f_max, RIFFUSION.power) == (512, 0, 10000, 0.25)
    assert (RIFFUSION.mel_scale, RIFFUSION.mel_norm, RIFFUSION.silence) == ("htk", None, 1)


def test_mono_from_prompts_to_files(tiny, tmp_path):
    sample = made(method(tiny))
    assert sample.result.sample_rate == 44100
    assert sample.result.waveform.shape == (20 * 441,)
    write_sample(tmp_path, sample, {"id": "x"})
    pixels = np.asarray(Image.open(tmp_path / "spectrogram.png"))
    assert pixels.shape == (512, 20)
    sound, rate = soundfile.read(tmp_path / "audio.wav")
    assert (sound.shape, rate) == ((20 * 441,), 44100)


def test_stereo_from_prompts_to_files(tiny, tmp_path):
    model = method(tiny, stereo=True)
    sample = made(model)
    write_sample(tmp_path, sample, {"id": "x"})
    pixels = np.asarray(Image.open(tmp_path / "spectrogram.png"))
    assert pixels.shape == (512, 20, 3)
    sound, rate = soundfile.read(tmp_path / "audio.wav", dtype="float32", always_2d=True)
    assert (sound.shape, rate) == ((20 * 441, 2), 44100)
    assert not np.array_equal(sound[:, 0], sound[:, 1])
    assert json.loads((tmp_path / "sample.json").read_text())["status"] == "ok"
    # Vocode each channel alone, in the mono format, from its color.
    latents = sample.result.latents[None]
    with torch.inference_mode():
        decoded = model.decoder.sound.decode(latents)
        mono = GriffinLim(format=RIFFUSION, iterations=1)
        mono.load()
        left, right = (mono(RIFFUSION.to_log_mel(decoded[:, [color]]))[0, : 20 * 441] for color in (1, 2))
    for side, alone in ((0, left), (1, right)):
        found = torch.from_numpy(sound[:, side].copy())
        level = float((found * alone).sum() / alone.square().sum())  # mono may have been scaled by another factor
        assert level > 0
        torch.testing.assert_close(found, level * alone, rtol=0, atol=1e-3)


def test_griffin_lim_uses_the_experts_format_and_records_null(tiny):
    model = method(tiny)
    model.prepare()
    assert model.post_process.vocoder.format == RIFFUSION
    assert model.settings(SPEC)["vocoder"]["format"] is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canvas": (256, 64)}, "canvas has 256 rows, but the vocoder GriffinLim expects 512 mel bands"),
        (
            {"vocoder": GriffinLim(format=AUFFUSION)},
            "GriffinLim has the spectrogram format Auffusion, but model.experts.audio has Riffusion: "
            "remove model.vocoder.init_args.format",
        ),
    ],
)
def test_parts_that_do_not_fit(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        method(tiny, **changes).prepare()


def test_a_vocoder_of_another_format_is_refused(tiny):
    model = method(tiny, vocoder=HiFiGAN(weights=str(tiny / "auffusion")))
    with pytest.raises(
        UserError,
        match="HiFiGAN has .*audio has Riffusion: set model.vocoder to GriffinLim",
    ):
        model.prepare()


def test_experts_of_two_formats_are_named(tiny):
    experts = {
        "music": Riffusion(weights=str(tiny / "auffusion")),
        "noise": Auffusion(weights=str(tiny / "auffusion")),
    }
    model = method(tiny, experts=experts, combiner=WarmStartAverage(t={"music": 1.0, "noise": 1.0}))
    with pytest.raises(
        UserError,
        match=r"model.experts.music has .* Riffusion, but .*noise has Auffusion: choose experts with one format",
    ):
        model.prepare()


def test_a_format_can_be_written_as_plain_values():
    assert replace(AUFFUSION, **asdict(RIFFUSION)) == RIFFUSION
