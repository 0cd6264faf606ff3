"""Rows with the user's own material: start, keep, control and interpolate."""

import re

import numpy as np
import pytest
import soundfile
from PIL import Image

from its.errors import UserError
from its.runs.replay import sample_config
from its.specs.prompts import PromptGrid
from its.specs.spec import assign_ids

EXPERTS = ["visual", "audio"]
ROW = {"visual": "a castle", "audio": "a bell"}


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("castle.png", "mask.png", "other.png"):
        Image.new("L", (32, 16), len(name) * 8).save(tmp_path / name)
    soundfile.write(tmp_path / "bell.wav", np.zeros(1600), 16_000)
    return tmp_path


def expand(*rows, **arguments):
    return PromptGrid(prompts=[ROW | row for row in rows] or [ROW], **arguments).expand(EXPERTS)


def test_rows_have_own_material_and_the_run_has_defaults(own):
    start, keep = {"image": "castle.png", "strength": 0.5}, {"mask": "mask.png"}
    control = {"image": "other.png", "edges": True}
    first, second, third = expand(
        {}, {"start": {"audio": "bell.wav", "strength": 1}}, {"start": None, "keep": None, "control": None},
        start=start, keep=keep, control=control,
    )  # fmt: skip
    assert (first.material.start.file.kind, first.material.start.strength) == ("image", 0.5)
    assert first.material.keep.path.endswith("mask.png")
    assert [(c.scale, c.edges) for c in first.material.controls] == [(1.0, True)]
    assert second.material.start.file.kind == "audio"
    assert not third.material


def test_files_of_a_prompt_file_lie_beside_it_also_in_csv(own, monkeypatch):
    (own / "rows").mkdir()
    (own / "castle.png").rename(own / "rows" / "castle.png")
    (own / "rows" / "rows.csv").write_text(
        "visual,audio,start.image,start.strength\na castle,a bell,castle.png,0.25\na dog,barking,,\n"
    )
    first, second = PromptGrid(prompts="rows/rows.csv").expand(EXPERTS)
    assert first.material.start.strength == 0.25
    assert second.material.start is None


def ids(specs):
    return [spec.id for spec in assign_ids(specs, lambda spec: {"material": spec.material.describe()})]


def test_the_identity_is_the_content_of_the_files(own):
    row = {"start": {"image": "castle.png", "strength": 0.5}, "keep": {"mask": "mask.png"}}
    (before,) = ids(expand(row))
    (own / "castle.png").rename(own / "moved.png")
    row["start"]["image"] = "moved.png"
    assert ids(expand(row)) == [before]
    Image.new("L", (32, 16), 255).save(own / "mask.png")
    assert ids(expand(row)) != [before]


@pytest.mark.parametrize("fraction", [0.25, 0.5, None])
def test_the_config_of_a_sample_makes_its_spec_again(own, fraction):
    where = {"canvas": True} if fraction is None else {"fraction": fraction}
    row = {
        "start": {"audio": "bell.wav", "strength": 0.5},
        "keep": {"mask": "mask.png"},
        "control": [{"image": "castle.png"}, {"image": "other.png", "scale": 0.5, "edges": True}],
        "interpolate": {"to": {"visual": "a dog", "seed": 9}, **where},
    }
    (spec,) = expand(row)
    resolved = {"method": "MultimodalDenoising", "model": {}, "save": []}
    data = sample_config(spec, resolved, precision="32-true")["data"]
    (again,) = PromptGrid(**data).expand(EXPERTS)
    assert (again.pair, again.seed) == (spec.pair, spec.seed)


def test_a_transition_has_plain_ends_and_each_sample_its_nearer_end():
    specs = expand(interpolate={"to": {"visual": "a dog", "seed": 9}, "samples": 5}, seeds=[1])
    assert [(s.prompts["visual"], s.seed, s.transition and s.transition.fraction) for s in specs] == [
        ("a castle", 1, None), ("a castle", 1, 0.25), ("a castle", 1, 0.5), ("a dog", 9, 0.25), ("a dog", 9, None),
    ]  # fmt: skip
    assert specs[3].transition.prompts == ROW
    assert {spec.prompts["audio"] for spec in specs} == {"a bell"}
    (along,) = expand(interpolate={"to": {"visual": "a dog"}, "canvas": True}, seeds=[1])
    assert (along.transition.fraction, along.transition.seed) == (None, None)
    one, two = expand(interpolate={"to": {"visual": "a dog"}, "canvas": True}, seeds=[1, 2])
    assert one.pair == two.pair


def test_a_sweep_changes_strength_and_scale(own):
    row = {"start": {"image": "castle.png", "strength": 0.5}, "control": {"image": "other.png"}}
    specs = expand(row, sweep={"start.strength": [0.2, 0.8], "control.scale": [0.5, 2.0]})
    got = [(s.material.start.strength, s.material.controls[0].scale) for s in specs]
    assert sorted(got) == [(0.2, 0.5), (0.2, 2.0), (0.8, 0.5), (0.8, 2.0)]
    assert all(not spec.settings for spec in specs)


START = {"image": "castle.png", "strength": 0.5}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"keep": {"mask": "mask.png"}}, "row 1: keep needs `start`"),
        ({"start": {"image": "castle.png"}}, "start: strength is missing; expected a number from 0 to 1"),
        ({"start": {"image": "castle.png", "strength": 1.5}}, "start: strength is 1.5; expected"),
        ({"start": {"image": "castle.png", "strength": True}}, "start: strength is True; expected"),
        ({"start": {"image": "nowhere.png", "strength": 0.5}}, "nowhere.png can't be used: No such file"),
        ({"start": {"image": "bell.wav", "strength": 0.5}}, "the image bell.wav can't be used"),
        ({"start": {"image": "castle.png", "audio": "bell.wav", "strength": 0.5}}, "expected image: FILE or audio"),
        ({"start": "castle.png"}, "start is 'castle.png'; expected a mapping of image, audio, strength"),
        ({"start": {"imgae": "castle.png", "strength": 0.5}}, "unknown key imgae.*Did you mean image"),
        ({"start": START, "keep": {"mask": 3}}, "keep: got .*expected {mask: FILE}"),
        ({"control": {"image": "castle.png", "scale": "big"}}, "control: scale is 'big'; expected a number of at"),
        ({"control": {"image": "castle.png", "edges": 3}}, "control: edges is 3; expected true or false"),
        ({"control": {"scale": 1.0}}, "control: got .*expected image: FILE"),
        ({"interpolate": {"samples": 3}}, "interpolate.to is empty"),
        ({"interpolate": {"to": {"seed": 2}}}, "interpolate: got none of samples"),
        ({"interpolate": {"to": {"seed": 2}, "samples": 3, "canvas": True}}, "expected one"),
        ({"interpolate": {"to": {"seed": -2}, "samples": 3}}, "interpolate.to.seed is -2; expected"),
        ({"interpolate": {"to": {"seed": 2}, "samples": 1}}, "samples is 1; expected a whole number from 2"),
        ({"interpolate": {"to": {"visaul": "x"}, "samples": 3}}, "unknown key visaul.*Did you mean visual"),
        ({"interpolate": {"to": {"visual": "\ud800"}, "samples": 3}}, "interpolate.to.visual can't be encoded"),
        ({"interpolate": {"to": {"visual": "x" * 20_000}, "samples": 3}}, "interpolate.to.visual has 20,000 char"),
        ({"strat": START}, "unknown expert strat; expected visual, audio.*Did you mean start"),
    ],
)
def test_wrong_rows_are_one_message(own, row, message):
    with pytest.raises(UserError) as refused:
        expand(row)
    assert re.search(message.replace("{", r"\{").replace("}", r"\}"), str(refused.value)), str(refused.value)
    assert len(str(refused.value)) < 300


def test_a_sweep_over_material_that_a_row_lacks(own):
    with pytest.raises(UserError, match=r"row 1: data.sweep: start.strength needs `start`"):
        expand(sweep={"start.strength": [0.5]})


def test_samples_of_transitions_are_counted_before_any_is_made():
    with pytest.raises(UserError, match="expected at most 1,000,000"):
        expand(interpolate={"to": {"seed": 2}, "samples": 10_000}, seeds={"start": 0, "count": 1000})
