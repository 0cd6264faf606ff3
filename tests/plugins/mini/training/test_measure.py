"""Figures of waveforms, on sounds with known figures; verdicts of the settings search; blocks of a contact sheet."""

import numpy as np
import pytest
import torch
from run_directories import add_sample

from its.errors import UserError
from its.runs.reader import complete_samples
from its_plugins.mini.judge_network import CLASSES
from its_plugins.mini.training import measure, search, sheet

RATE = 16_000
TIME = np.arange(6 * RATE) / RATE


def strikes(ratios):
    """Synthesise a strike every 1.5 s: decaying partials at `ratios` of 300 Hz."""
    since = TIME % 1.5
    return sum(np.exp(-3 * since) * np.sin(2 * np.pi * 300 * ratio * since) for ratio in ratios)


def test_strikes_are_counted_and_bells_are_less_harmonic_than_strings():
    string, bell = strikes([1, 2, 3, 4, 5]), strikes([1, 1.19, 2.31, 2.76, 4.43])
    assert measure.onsets(bell) == pytest.approx(1 / 1.5, abs=0.2)
    assert measure.inharmonicity(string) < 10
    assert measure.inharmonicity(bell) > 20


def test_rolls_are_found_by_their_rate():
    noise = np.random.default_rng(0).standard_normal(len(TIME))
    assert measure.pulse_rate(noise * (1 + np.cos(2 * np.pi * 12 * TIME)), 5, 40) == pytest.approx(12, abs=0.6)


def test_a_glide_is_how_far_the_line_moves():
    part = TIME[: RATE // 2]
    rise = np.sin(2 * np.pi * (400 * part + 400 * part**2))  # 400 to 800 Hz in half a second
    sound = np.concatenate([rise, np.zeros(RATE // 2)] * 3)
    assert measure.glide(sound, 250, 1000) == pytest.approx(1.85, abs=0.15)
    assert np.isnan(measure.glide(np.zeros(RATE), 250, 1000))


def test_a_table_leaves_out_sounds_without_a_figure(monkeypatch):
    figures = {"growl": {"first": lambda sound: float(sound[0])}}
    monkeypatch.setattr(measure, "FIGURES", figures)
    rows = [np.array([value]) for value in (1.0, 2.0, 9.0, np.nan)]
    table = measure.table({"growl": rows}, {"growl": {"first": (0.0, 5.0)}})
    assert table == {"growl": {"first": {"median": 2.0, "within %": 50}}}


def test_a_verdict_has_the_score_of_the_named_class_and_whether_it_is_the_likeliest():
    probabilities = torch.zeros(2, len(CLASSES["audio"]))
    bell, guitar = (CLASSES["audio"].index(name) for name in ("bell", "guitar"))
    probabilities[0, bell], probabilities[1, bell], probabilities[1, guitar] = 0.9, 0.3, 0.7
    assert search.verdict("audio", "bell ringing", probabilities) == {"score": 60.0, "recognised": 50.0}


def test_a_block_of_a_sheet_has_each_canvas_in_its_place():
    composed = [np.full((256, 992), level, np.uint8) for level in (50, 100, 150)]
    single = [np.full((256, 992), 200, np.uint8)] * 2
    block = np.asarray(sheet.block("castle + bell", composed, single))
    for level, place in ((50, (0, 0)), (100, (0, 1)), (150, (1, 0)), (200, (0, 2)), (200, (1, 2))):
        left, top = sheet.corner(*place)
        assert (block[top : top + sheet.CELL[1], left : left + sheet.CELL[0]] == level).all()


def test_samples_of_a_run_are_grouped_by_prompts_and_sorted_by_seed(tmp_path):
    prompts = {"visual": "castles", "audio": "bells"}
    for seed, error in ((8, None), (7, None), (9, "failed")):
        add_sample(tmp_path, seed=seed, prompts=prompts, error=error)
    ((pair, samples),) = sheet.by_pair(complete_samples([tmp_path])).items()
    assert pair == ("castles", "bells")
    assert [sample.record["seed"] for sample in samples] == [7, 8]
    assert sheet.picture_of(samples[0]).shape == (64, 128)
    sounds = measure.sounds_of_run(tmp_path)
    assert {name: len(rows) for name, rows in sounds.items()} == {"bell": 2}
    assert abs(sounds["bell"][0]).max() == pytest.approx(0.3, abs=1e-3)
    with pytest.raises(UserError, match="nothing"):
        measure.sounds_of_run(tmp_path / "nothing")
