from dataclasses import asdict, replace
from itertools import pairwise

import pytest
import torch

from its.audio.spectrogram import AUFFUSION
from its.report.axes import MIN_DISTANCE, hertz_ticks, second_ticks

HTK = replace(AUFFUSION, mel_scale="htk", mel_norm=None, n_mels=512, f_max=10_000, sample_rate=44_100, n_fft=17_640)


@pytest.mark.parametrize("form", [replace(AUFFUSION, n_fft=65_536), HTK], ids=["slaney", "htk"])
def test_a_frequency_lies_in_the_row_of_the_band_that_it_excites_most(form):
    bank = form.filterbank()
    for band in (form.n_mels // 8, form.n_mels // 2, form.n_mels - 1):
        hertz = float(bank[:, band].argmax()) * form.sample_rate / form.n_fft
        assert form.frequency_height(hertz) * form.n_mels == pytest.approx(band + 0.5, abs=0.3)


def test_a_tone_lights_up_where_its_tick_is():
    tone = (torch.arange(16_000) * 2 * torch.pi * 2000 / 16_000).sin()[None]
    picture = AUFFUSION.to_picture(AUFFUSION.log_mel(tone))[0, 0]
    brightest = int(picture[:, 50].argmax())
    (tick,) = [tick["at"] for tick in hertz_ticks(asdict(AUFFUSION)) if tick["label"] == "2k"]
    assert (1 - tick) * 256 == pytest.approx(brightest + 0.5, abs=1)


def test_ticks_of_the_paper_s_format():
    ticks = hertz_ticks(asdict(AUFFUSION))
    assert [tick["label"] for tick in ticks] == ["8k", "4k", "2k", "1k", "500", "125"]
    heights = [tick["at"] for tick in ticks]
    assert heights[0] == 1
    assert min(a - b for a, b in pairwise(heights)) >= MIN_DISTANCE


@pytest.mark.parametrize(
    "recorded",
    [
        None,
        "Auffusion",
        {"nothing": 1},
        {"f_max": "high"},
        {"mel_scale": "bark"},
        {**asdict(AUFFUSION), "f_min": 1e308, "f_max": None},
    ],
)
def test_an_invalid_format_has_no_ticks(recorded):
    assert hertz_ticks(recorded) == []


@pytest.mark.parametrize(
    ("seconds", "labels"),
    [(9.92, "0 2 4 6 8 9.92"), (8.0, "0 1 2 3 4 5 6 7 8"), (0.5, "0 0.1 0.2 0.3 0.4 0.5"), (5.12, "0 1 2 3 4 5.12")],
)
def test_seconds(seconds, labels):
    ticks = second_ticks(seconds)
    assert " ".join(tick["label"] for tick in ticks) == labels
    assert [tick["at"] * seconds for tick in ticks[:-1]] == pytest.approx(
        [float(t["label"]) for t in ticks[:-1]], abs=1e-3
    )
    assert ticks[-1]["at"] == 1
