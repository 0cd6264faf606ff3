"""Groups and formats of tables of scores."""

import csv
import io
from pathlib import Path

import pytest

from its.errors import UserError
from its.evaluation.tables import csv as comma_separated
from its.evaluation.tables import latex, markdown, tabulate
from its.runs.reader import StoredSample

CLIP = {"judges": "visual", "weights": {"name": "clip", "revision": "0123456789abcdef"}}
JUDGE = {"judges": "visual", "weights": {"name": "pack:mini", "sha256": "ff00", "embedded": True}}


def found(seed, scores, *, run="runs/a", prompts=None, **settings):
    record = {
        "seed": seed,
        "prompts": prompts or {"visual": "castle", "audio": "bell"},
        "settings": {"method": "multimodal denoising", **settings},
        "scores": scores,
    }
    return StoredSample(run=Path(run), folder=Path(run) / "samples" / str(seed), record=record)


def test_groups_by_method_with_single_experts_named():
    samples = [
        found(0, {"CLIPScorer": {"score": 0.2, **CLIP}}),
        found(1, {"CLIPScorer": {"score": 0.4, **CLIP}}, combiner={"weights": {"visual": 1.0, "audio": 0.0}}),
        found(2, {"CLIPScorer": {"score": 0.6, **CLIP}}, combiner={"weights": {"visual": 0.5, "audio": 0.5}}),
    ]
    table = tabulate(samples, ["method"])
    assert {labels[0]: entries[0].mean for labels, entries in table.rows} == {
        "multimodal denoising": pytest.approx(0.4),
        "visual alone": pytest.approx(0.4),
    }


def test_groups_by_any_setting_and_several_keys():
    samples = [
        found(seed, {"CLIPScorer": {"score": scale / 20, **CLIP}}, guidance_scale={"visual": scale})
        for seed in (0, 1)
        for scale in (5.0, 10.0)
    ]
    table = tabulate(samples, ["guidance_scale.visual", "seed"])
    assert [labels for labels, _ in table.rows] == [("5.0", "0"), ("10.0", "0"), ("5.0", "1"), ("10.0", "1")]
    with pytest.raises(UserError, match="no sample has this setting.*Did you mean guidance_scale.visual"):
        tabulate(samples, ["guidance_scale.visaul"])


def test_scores_of_other_weights_and_of_the_judge_never_share_a_column():
    other = CLIP | {"weights": {"name": "clip", "revision": "other"}}
    samples = [
        found(0, {"CLIPScorer": {"score": 0.2, **CLIP}}),
        found(1, {"CLIPScorer": {"score": 0.8, **other}}),
        found(2, {"MiniPictureJudge": {"score": 1.0, **JUDGE}}),
    ]
    table = tabulate(samples, ["method"])
    assert list(table.columns) == ["CLIPScorer 1", "CLIPScorer 2", "MiniPictureJudge"]
    assert sorted(entry.mean for entry in table.rows[0][1]) == [0.2, 0.8, 1.0]
    assert list(table.missing) == [2, 2, 2]
    assert "MiniPictureJudge: pack:mini (ff00); an embedded judge, neither CLIP nor CLAP" in markdown(table)


def test_markdown_has_percent_intervals_and_escapes_bars():
    samples = [
        found(seed, {"CLIPScorer": {"score": score, **CLIP}}, prompts={"visual": name, "audio": "x"})
        for seed, (name, score) in enumerate([("a|b", 0.2), ("c", 0.4)])
    ]
    assert "| multimodal denoising | 2 | 30.0 (13.9) [20.0, 40.0] |" in markdown(tabulate(samples, ["method"]))
    assert r"| a\|b | 1 | 20.0 (0.0) |" in markdown(tabulate(samples, ["prompt.visual"]))


def test_csv_has_plain_numbers():
    samples = [found(seed, {"CLIPScorer": {"score": score, **CLIP}}) for seed, score in enumerate([0.25, 0.75, None])]
    (row,) = csv.DictReader(io.StringIO(comma_separated(tabulate(samples, ["run"]))))
    assert row["run"] == "a"
    assert (float(row["CLIPScorer.mean"]), row["CLIPScorer.n"]) == (0.5, "2")
    assert row["CLIPScorer.bootstrap_low"] == ""


def test_latex_is_escaped():
    name = r"50% of \bell & {x}_1 #~^$"
    text = latex(tabulate([found(0, {"CLIPScorer": {"score": 0.5, **CLIP}}, prompts={"visual": name})], ["prompt"]))
    expected = r"50\% of \textbackslash{}bell \& \{x\}\_1 \#\textasciitilde{}\textasciicircum{}\$ & 1 & 50.0 (0.0) \\"
    assert expected in text.splitlines()
    assert r"prompt & n & CLIPScorer \% \\" in text.splitlines()
    assert text.count("\n") == 8
