import json
import re

import pytest
import soundfile

from its.cli import main

CASTLE, DOGS = {"visual": "a castle", "audio": "a bell"}, {"visual": "dogs", "audio": "barking"}


@pytest.fixture
def study(tmp_path, capsys):
    """`study("a", "b", ...)` writes a study of runs and returns (exit status, data of the page, stderr)."""

    def study(*runs, options=()):
        status = main(["study", *(str(tmp_path / run) for run in runs), "--output", str(tmp_path / "study"), *options])
        page = tmp_path / "study" / "index.html"
        found = re.findall(r'id="data">(.*?)</script>', page.read_text(), re.DOTALL) if page.exists() else []
        return status, json.loads(found[0]) if found else None, capsys.readouterr().err

    return study


def test_only_samples_of_one_pair_of_prompts_meet(add, study, tmp_path):
    for run, seeds in (("ours", (1, 2, 3)), ("theirs", (1,))):
        for seed in seeds:
            add(run, seed=seed, prompts=CASTLE, tone=100.0 * seed + len(run))
    add("ours", prompts=DOGS)
    add("theirs", prompts={"visual": "a castle", "audio": "barking"})
    status, data, _ = study("ours", "theirs")
    assert status == 0
    (pair,) = data["pairs"]
    assert (pair["visual"], pair["audio"]) == ("a castle", "a bell")
    assert [side["run"] for side in pair["first"]] == ["ours", "ours"]
    assert [side["run"] for side in pair["other"]] == ["theirs"]
    assert data["catch"] == 2


def test_the_best_ranked_are_shown(add, study):
    for seed, mark in (
        (1, {}),
        (2, {"rank": 2}),
        (3, {"rank": 1}),
        (4, {"rank": 9, "kept": True}),
        (5, {"kept": False}),
    ):
        add("ours", seed=seed, **mark)
    add("theirs")
    _, data, _ = study("ours", "theirs", options=["--samples", "3"])
    seeds = [re.search(r"-(\d+)-\w+$", side["sample"]).group(1) for side in data["pairs"][0]["first"]]
    assert seeds == ["4", "3", "2"]


def test_the_folder_is_whole_and_its_names_tell_nothing(add, study, tmp_path):
    folder = add("ours", seed=1)
    add("theirs", seed=2, tone=100.0)
    _, data, _ = study("ours", "theirs")
    here = {path.name: path for path in (tmp_path / "study" / "media").iterdir()}
    listed = {media[kind].removeprefix("media/") for media in data["media"] for kind in ("picture", "sound")}
    assert {*here} == listed
    assert all(re.fullmatch(r"[0-9a-f]{16}\.(png|wav)", name) for name in here)
    first = data["media"][data["pairs"][0]["first"][0]["media"]]
    assert (tmp_path / "study" / first["sound"]).read_bytes() == (folder / "audio.wav").read_bytes()
    noise, rate = soundfile.read(tmp_path / "study" / data["media"][data["noise"]["media"]]["sound"])
    assert (rate, len(noise)) == (16_000, 48_000)
    assert noise.std() == pytest.approx(0.05, rel=0.02)
    assert data["noise"]["run"] is None
    again = study("ours", "theirs")[1]
    assert again["study"] == data["study"]


def test_the_first_run_meets_each_of_the_others(add, study):
    for run in ("ours", "imprint", "sds"):
        add(run, prompts=CASTLE)
        add(run, prompts=DOGS)
    _, data, _ = study("ours", "imprint", "sds", options=["--catch", "0"])
    assert [(pair["other"][0]["run"], pair["visual"]) for pair in data["pairs"]] == [
        ("imprint", "a castle"),
        ("imprint", "dogs"),
        ("sds", "a castle"),
        ("sds", "dogs"),
    ]
    assert {pair["first"][0]["run"] for pair in data["pairs"]} == {"ours"}
    assert data["noise"]["media"] is None


def test_wrong_input_changes_nothing(add, study, tmp_path):
    add("ours", prompts=CASTLE)
    add("dogs", prompts=DOGS)
    add("failed", prompts=CASTLE, error="no memory")
    (tmp_path / "none").mkdir()
    wrong = {
        ("ours",): "got one run",
        ("ours", "none"): "has no folder samples",
        ("ours", "dogs"): "share no prompts",
        ("ours", "ours"): "is given twice",
        ("ours", "failed"): "has no complete sample",
        (
            "ours",
            "dogs",
            "--prompts",
            "picture",
            "sound",
        ): "no sample has prompts named picture and sound; the names are audio, visual",
        ("ours", "dogs", "--samples", "0"): "expected 1 or more",
    }
    for words, message in wrong.items():
        runs = [word for word in words if (tmp_path / word).is_dir()]
        status, data, error = study(*runs, options=words[len(runs) :])
        assert (status, data, len(error.splitlines())) == (2, None, 1)
        assert message in error
        assert not (tmp_path / "study").exists()


def test_media_are_not_copied_through_a_link(add, study, tmp_path):
    add("ours"), add("theirs")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "media").symlink_to(tmp_path / "elsewhere")
    status, _, error = study("ours", "theirs")
    assert (status, error.count("media is a symbolic link, which is not followed below")) == (2, 1)
    assert not list((tmp_path / "elsewhere").iterdir())
