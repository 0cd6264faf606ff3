"""Griffin-Lim reconstructs sounds with their pitch, timing and level."""

import math
import time
from dataclasses import replace

import pytest
import torch
from fake_gpu import WithoutFloat64
from jsonargparse import ArgumentParser
from torch import Tensor

from its.audio.spectrogram import AUFFUSION, SpectrogramFormat
from its.interfaces import Vocoder
from its.testing import check_vocoder
from its_plugins.experts.riffusion import RIFFUSION, RIFFUSION_STEREO
from its_plugins.vocoders.griffin_lim import GriffinLim

RATE = AUFFUSION.sample_rate


@pytest.fixture(scope="module")
def griffin_lim() -> GriffinLim:
    vocoder = GriffinLim()
    vocoder.load()
    return vocoder


def seconds(frames: int) -> Tensor:
    return torch.arange(frames * 160, dtype=torch.float64) / RATE


def tone(hertz: float, frames: int = 60) -> Tensor:
    return (0.3 * torch.sin(2 * math.pi * hertz * seconds(frames))).float()[None]


def bells(frames: int = 200) -> Tensor:
    s = seconds(frames)
    strikes = [
        loud * torch.exp(-3 * (s - at)) * (s >= at) * torch.sin(2 * math.pi * hertz * (s - at))
        for at in (0.1, 0.8, 1.5)
        for hertz, loud in ((440, 0.2), (587, 0.12), (1100, 0.1), (2217, 0.06))
    ]
    return torch.stack(strikes).sum(0).float()[None]


def chirp(frames: int = 200) -> Tensor:
    s = seconds(frames)
    return (0.3 * torch.sin(2 * math.pi * (300 * s + 700 * s**2))).float()[None]  # 300 to 3100 Hz in 2 s


def hiss(frames: int = 200) -> Tensor:
    return 0.1 * torch.randn(1, frames * 160, generator=torch.Generator().manual_seed(0))


def distance(sound: Tensor, log_mel: Tensor) -> float:
    """Spectral convergence: relative error of mel magnitudes."""
    wanted = log_mel.exp()
    return float(torch.linalg.norm(AUFFUSION.log_mel(sound).exp() - wanted) / torch.linalg.norm(wanted))


@pytest.mark.parametrize("hertz", [110.0, 440.0, 1000.0, 2500.0, 6000.0])
def test_band_and_level_of_a_tone(griffin_lim, hertz):
    sound = tone(hertz)
    log_mel = AUFFUSION.log_mel(sound)
    back = griffin_lim(log_mel)
    middle = slice(20, 40)
    expected = log_mel[0, :, middle].mean(1)
    found = AUFFUSION.log_mel(back)[0, :, middle].mean(1)
    assert int(found.argmax()) == int(expected.argmax())
    assert float(found.max() - expected.max()) == pytest.approx(0, abs=0.15)
    inside = back[0, 3200:6400]
    spectrum = torch.fft.rfft(inside * torch.hann_window(len(inside))).abs()
    # Tolerance: the window's resolution for low bands, which are narrower, and a band's width for high ones.
    assert abs(int(spectrum.argmax()) * RATE / len(inside) - hertz) <= max(8, 0.015 * hertz)


# Measured: bells 0.023, chirp 0.052, hiss 0.093. With an initial phase of zero: 0.047, 0.089, 0.100.
@pytest.mark.parametrize(("sound", "bound"), [(bells(), 0.035), (chirp(), 0.07), (hiss(), 0.105)])
def test_spectral_convergence(griffin_lim, sound, bound):
    log_mel = AUFFUSION.log_mel(sound)
    assert distance(griffin_lim(log_mel), log_mel) < bound


def test_more_iterations_come_closer():
    log_mel = AUFFUSION.log_mel(hiss())
    found = []
    for iterations in (1, 4, 64):
        vocoder = GriffinLim(iterations=iterations)
        vocoder.load()
        found.append(distance(vocoder(log_mel), log_mel))
    assert found[0] > 1.2 * found[1] > 1.5 * found[2]


def test_timing_of_clicks(griffin_lim):
    """Clicks are reconstructed at their time, to a tenth of a column."""
    sound = 1e-4 * hiss(100)
    strokes = [1600, 5000, 8333, 12000]
    for at in strokes:
        sound[0, at : at + 8] += torch.tensor([0.9, -0.8, 0.7, -0.6, 0.5, -0.4, 0.3, -0.2])
    back = griffin_lim(AUFFUSION.log_mel(sound))
    for at in strokes:
        around = back[0, at - 700 : at + 700].square()
        centre = float((around * torch.arange(-700, 700)).sum() / around.sum())
        assert abs(centre - 4) < 16, f"stroke at {at} came back {centre:.0f} samples later"


def test_columns_of_a_chirp_line_up(griffin_lim):
    log_mel = AUFFUSION.log_mel(chirp())
    errors = {}
    back = griffin_lim(log_mel)
    for shift in (-80, -40, 0, 40, 80):
        errors[shift] = distance(back.roll(shift, 1), log_mel)
    assert min(errors, key=errors.__getitem__) == 0, errors


@pytest.mark.parametrize("frames", [1, 2, 5, 7, 50])
def test_length_is_columns_times_hop(griffin_lim, frames):
    sound = griffin_lim(torch.zeros(2, 256, frames))
    assert sound.shape == (2, frames * 160)
    assert sound.isfinite().all()


def test_a_batch_is_exactly_its_samples(griffin_lim):
    log_mel = torch.cat([AUFFUSION.log_mel(sound(60)) for sound in (bells, chirp, hiss)])
    batch = griffin_lim(log_mel)
    for row in range(3):
        assert torch.equal(batch[row], griffin_lim(log_mel[row : row + 1])[0])


def test_only_clipping_samples_are_scaled_down(griffin_lim):
    quiet = AUFFUSION.log_mel(bells(60))
    loud = quiet + math.log(20.0)
    sound = griffin_lim(torch.cat([quiet, loud]))
    peaks = sound.abs().amax(1)
    assert float(peaks[0]) < 0.9
    assert float(peaks[1]) == pytest.approx(1.0, abs=1e-6)
    torch.testing.assert_close(sound[0], griffin_lim(quiet)[0])
    assert int((sound[1].abs() > 0.99).sum()) < 5  # scaled, not clipped


def test_black_is_silence(griffin_lim):
    sound = griffin_lim(AUFFUSION.to_log_mel(torch.zeros(1, 1, 256, 30)))
    assert sound.abs().max() < 1 / 32768  # less than one step of 16-bit samples


def test_the_global_random_generator_is_not_used(griffin_lim):
    log_mel = AUFFUSION.log_mel(hiss(40))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    sound = griffin_lim(log_mel)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(griffin_lim(log_mel), sound)


def test_inverse_of_the_filterbank(griffin_lim):
    """The inverse gives the original mel magnitudes, except for negative values, which are small."""
    wanted = AUFFUSION.log_mel(bells()).exp()
    linear = torch.einsum("k f, b f t -> b k t", griffin_lim.inverse_mel, wanted)
    mel = torch.einsum("k f, b k t -> b f t", AUFFUSION.filterbank(), linear)
    torch.testing.assert_close(mel, wanted, rtol=0, atol=1e-4 * float(wanted.max()))
    clamped = torch.einsum("k f, b k t -> b f t", AUFFUSION.filterbank(), linear.clamp(min=0))
    assert torch.linalg.norm(clamped - wanted) / torch.linalg.norm(wanted) < 0.02


def test_a_filterbank_that_loses_bands_does_not_blow_up():
    coarse = SpectrogramFormat(
        name="more bands than the transform resolves",
        sample_rate=16000,
        n_fft=512,
        win_length=512,
        hop_length=128,
        n_mels=200,
        f_min=0.0,
        f_max=8000.0,
        floor=1e-5,
        ceiling=200.0,
    )
    vocoder = GriffinLim(format=coarse, iterations=8)
    vocoder.load()
    sound = 0.3 * torch.sin(2 * math.pi * 2000 * torch.arange(12800) / 16000)[None]
    back = vocoder(coarse.log_mel(sound))
    assert back.shape == (1, 12800)
    assert 0.1 < float(back.abs().max()) < 0.6


def test_float32_under_other_defaults():
    log_mel = AUFFUSION.log_mel(bells(30))
    expected = GriffinLim()
    expected.load()
    torch.set_default_dtype(torch.bfloat16)
    try:
        vocoder = GriffinLim()
        vocoder.load()
        sound = vocoder.to(torch.bfloat16)(log_mel)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(sound, expected(log_mel))


def test_a_clip_of_ten_seconds_is_quick(griffin_lim):
    log_mel = AUFFUSION.log_mel(bells(1024))
    start = time.process_time()
    griffin_lim(log_mel)
    assert time.process_time() - start < 4  # about 0.8 s on an idle core


def test_from_yaml():
    parser = ArgumentParser()
    parser.add_argument("--vocoder", type=Vocoder)
    numbers = {
        "name": "mine",
        "sample_rate": 8000,
        "n_fft": 512,
        "win_length": 400,
        "hop_length": 100,
        "n_mels": 40,
        "f_min": 0.0,
        "f_max": 4000.0,
        "floor": 1e-4,
        "ceiling": 50.0,
    }
    for init_args, form in (
        ({}, AUFFUSION),
        ({"iterations": 3}, AUFFUSION),
        ({"format": numbers}, SpectrogramFormat(**numbers)),
    ):
        config = parser.parse_object({"vocoder": {"class_path": "GriffinLim", "init_args": init_args}})
        vocoder = parser.instantiate(config).vocoder
        assert vocoder.format == form
        assert vocoder.iterations == init_args.get("iterations", 32)


def test_the_experts_format_is_the_default():
    vocoder = GriffinLim(iterations=1)
    vocoder.load()
    vocoder.set_format(RIFFUSION)
    assert vocoder.format == RIFFUSION
    vocoder.load()
    assert vocoder(torch.zeros(1, 512, 3)).shape == (1, 3 * 441)
    fixed = GriffinLim(format=AUFFUSION)
    fixed.set_format(RIFFUSION)
    assert fixed.format == AUFFUSION


@pytest.mark.parametrize("form", [RIFFUSION, RIFFUSION_STEREO], ids=lambda form: form.name)
def test_contract_in_other_formats(form):
    check_vocoder(GriffinLim(format=form, iterations=2))


def test_bins_of_zero_padding_are_left_out():
    """Riffusion pads its window of 4410 to 17640: every fourth bin equals the transform without padding."""
    vocoder = GriffinLim(format=RIFFUSION)
    vocoder.load()
    assert vocoder.inverse_mel.shape == (2206, 512)
    bank = RIFFUSION.filterbank().double()
    whole = torch.linalg.solve(bank.mT @ bank, bank.mT).mT
    torch.testing.assert_close(vocoder.inverse_mel, whole[::4].float(), rtol=0, atol=1e-5)


def test_melody_in_riffusions_format():
    vocoder = GriffinLim(format=RIFFUSION)
    vocoder.load()
    n = torch.arange(100 * 441, dtype=torch.float64)
    notes = [0.02 * torch.sin(2 * math.pi * f * n / 44100) * torch.exp(-n / 30000) for f in (220, 277, 330, 1318)]
    log_mel = RIFFUSION.log_mel(torch.stack(notes).sum(0).float()[None])
    drawn = (RIFFUSION.to_picture(log_mel) * 255).round() / 255
    inner = slice(10, -10)  # without the borders: the window spans ten columns
    wanted = log_mel.exp()[..., inner]
    found = RIFFUSION.log_mel(vocoder(RIFFUSION.to_log_mel(drawn))).exp()[..., inner]
    assert torch.linalg.norm(found - wanted) / torch.linalg.norm(wanted) < 0.06


def test_channels_are_scaled_together():
    form = replace(AUFFUSION, name="stereo", channels=2)
    vocoder = GriffinLim(format=form, iterations=4)
    vocoder.load()
    left = AUFFUSION.log_mel(bells(40)) + math.log(20.0)
    sound = vocoder(torch.stack([left, left - math.log(10.0)], 1))
    assert sound.shape == (1, 2, 6400)
    peaks = sound.abs().amax(2)[0]
    assert peaks.tolist() == pytest.approx([1.0, 0.1], rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"iterations": 0}, r"iterations \(=0\) must be at least 1"),
        ({"momentum": 1.0}, r"momentum \(=1.0\) must lie in \[0, 1\)"),
        ({"momentum": -0.1}, r"momentum \(=-0.1\)"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        GriffinLim(**arguments)


def test_wrong_order_and_wrong_bands(griffin_lim):
    with pytest.raises(RuntimeError, match=r"call load\(\) first"):
        GriffinLim()(torch.zeros(1, 256, 10))
    with pytest.raises(ValueError, match="got a spectrogram of 64 mel bands, expected 256"):
        griffin_lim(torch.zeros(1, 64, 10))


def test_nothing_is_float64_on_the_device(monkeypatch):
    """MPS lacks float64. istft is replaced, since it checks the values of its window, which fake tensors lack."""

    def istft(spectrum, *, hop_length, **_):
        return torch.zeros((spectrum.shape[-1] - 1) * hop_length, device=spectrum.device)

    monkeypatch.setattr(torch, "istft", istft)
    with WithoutFloat64():
        with torch.device("cuda"):
            vocoder = GriffinLim(iterations=2)
            vocoder.load()
        assert vocoder.inverse_mel.device.type == "cuda"
        sound = vocoder(torch.randn(2, 256, 32, device="cuda"))
        assert (sound.shape, sound.dtype, sound.device.type) == ((2, 32 * 160), torch.float32, "cuda")
        with pytest.raises(TypeError, match="makes torch.float64 on the device"):
            sound.double()
