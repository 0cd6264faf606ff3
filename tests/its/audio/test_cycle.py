"""Cycle consistency of sounds with known spectrograms."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from its.audio.cycle import EDGE, GAP, compare_with_sound, correlation, side_by_side
from its.audio.spectrogram import AUFFUSION
from its.methods.sample import Result, Sample
from its.runs.sample_files import is_done, write_sample
from its.specs.spec import SampleSpec

COLUMNS = 60


def sound(seed=0):
    """Modulated noise with a chirp, above the format's floor everywhere."""
    n = COLUMNS * AUFFUSION.hop_length
    time = torch.arange(n) / AUFFUSION.sample_rate
    noise = torch.randn(n, generator=torch.Generator().manual_seed(seed))
    swell = 0.2 + 0.15 * torch.sin(2 * math.pi * 4 * time)
    return 0.1 * swell * noise + 0.2 * torch.sin(2 * math.pi * (300 + 2000 * time) * time)


def picture_of(waveform):
    return AUFFUSION.to_picture(AUFFUSION.log_mel(waveform[None]))[0, 0]


def test_a_perfect_vocoder_comes_back_at_0_db():
    cycle = compare_with_sound(picture_of(sound()), sound(), AUFFUSION)
    assert cycle.error_db == pytest.approx(0, abs=1e-3)
    assert cycle.shape_db == pytest.approx(0, abs=1e-3)
    assert cycle.correlation == pytest.approx(1, abs=1e-6)
    assert cycle.delay == 0
    torch.testing.assert_close(cycle.picture[:, :COLUMNS], cycle.picture[:, COLUMNS + GAP :], rtol=0, atol=1e-4)


@pytest.mark.parametrize("gain", [0.5, 2.0])
def test_a_gain_is_so_many_db_and_no_change_of_shape(gain):
    cycle = compare_with_sound(picture_of(sound()), gain * sound(), AUFFUSION)
    decibels = 20 * math.log10(gain)
    # 0.05: epsilon (1e-9) affects the softest bands.
    assert cycle.error_db == pytest.approx(abs(decibels), abs=0.05)
    assert cycle.level_db == pytest.approx(decibels, abs=0.05)
    assert cycle.shape_db == pytest.approx(0, abs=0.05)
    assert cycle.delay == 0
    assert cycle.correlation == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("delay", [-160, -80, 40, 160])
def test_a_shift_is_found_and_taken_back(delay):
    cycle = compare_with_sound(picture_of(sound()), sound().roll(delay), AUFFUSION)
    assert cycle.delay == delay
    assert cycle.error_db < 0.05


def test_centred_synthesis_is_half_a_hop_early():
    """Inverse STFT of torch with center=True, compared with analysis without centring."""
    form, length = AUFFUSION, COLUMNS * AUFFUSION.hop_length
    window = form.window(torch.device("cpu"))
    options = {"n_fft": form.n_fft, "hop_length": form.hop_length, "win_length": form.win_length, "window": window}
    pad = (form.n_fft - form.hop_length) // 2
    padded = torch.nn.functional.pad(sound()[None, None], (pad, pad), mode="reflect")[0]
    spectrum = torch.stft(padded, **options, center=False, return_complex=True)
    early = torch.istft(spectrum, **options, center=True, length=length)[0]
    cycle = compare_with_sound(picture_of(sound()), early, form)
    assert cycle.delay == -form.hop_length // 2
    assert cycle.error_db < 0.2


def test_another_sound_does_not_come_back():
    cycle = compare_with_sound(picture_of(sound()), 0.1 * torch.randn(COLUMNS * 160), AUFFUSION)
    assert cycle.error_db > 5
    assert cycle.correlation < 0.9


def test_the_edges_do_not_count():
    picture = picture_of(sound())
    picture[:, :EDGE] = picture[:, -EDGE:] = 0
    assert compare_with_sound(picture, sound(), AUFFUSION).error_db == pytest.approx(0, abs=1e-3)


def test_correlation_is_numpys_and_0_where_nothing_varies():
    one, other = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(1))
    expected = np.corrcoef(one.flatten().numpy(), other.flatten().numpy())[0, 1]
    assert correlation(one, other) == pytest.approx(expected, abs=1e-6)
    assert correlation(one, torch.ones(5, 7)) == 0


def test_stereo_comes_back_in_both_channels():
    form = replace(AUFFUSION, channels=2)
    both = torch.stack([sound(1), sound(2)])
    picture = form.to_picture(form.log_mel(both[None]))[0]
    cycle = compare_with_sound(picture, both, form)
    assert (cycle.delay, cycle.picture.shape) == (0, (3, 256, 2 * COLUMNS + GAP))
    assert cycle.error_db == pytest.approx(0, abs=1e-3)
    assert compare_with_sound(picture, both.flip(0), form).correlation < 0.99


def test_dark_is_loud_and_other_curves_make_no_difference():
    form = replace(AUFFUSION, silence=1, power=0.25)
    picture = form.to_picture(form.log_mel(sound()[None]))[0, 0]
    cycle = compare_with_sound(picture, 0.5 * sound(), form)
    assert cycle.level_db == pytest.approx(-6.02, abs=0.1)


def test_pictures_side_by_side():
    joined = side_by_side(torch.zeros(3, 4), torch.full((3, 4), 0.5))
    assert joined.shape == (3, 4 + GAP + 4)
    assert joined[0].tolist() == [0] * 4 + [1] * GAP + [0.5] * 4


def test_the_sample_keeps_it_where_it_is_asked_for(tmp_path):
    row = SampleSpec(prompts={}, negative_prompts={}, guidance_scale={}, seed=1, source="test")
    waveform, spectrogram = sound(), picture_of(sound()).clamp(0, 1)
    result = Result(
        latents=torch.zeros(4, 32, 8),
        spectrogram=spectrogram,
        picture=spectrogram.expand(3, -1, -1),
        waveform=waveform,
        sample_rate=16_000,
        format=AUFFUSION,
    )
    record = {"prompts": {}, "seed": 1, "settings": {"vocoder": {"class": "Perfect"}}}
    write_sample(tmp_path, Sample(spec=row, result=result), record, ["cycle"])
    assert is_done(tmp_path, ["cycle"])
    kept = json.loads((tmp_path / "sample.json").read_text())["cycle"]
    assert kept["vocoder"] == "Perfect"
    assert kept == {"vocoder": "Perfect", **compare_with_sound(spectrogram, waveform, AUFFUSION).metrics()}
    assert Image.open(tmp_path / "cycle.png").size == (2 * COLUMNS + GAP, 256)
    write_sample(tmp_path / "other", Sample(spec=row, result=result), {})
    assert not (tmp_path / "other" / "cycle.png").exists()
