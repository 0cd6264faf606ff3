"""`its evaluate` and `its table` on run folders, with tiny random CLIP and CLAP models."""

import csv
import importlib.util
import json
import re
from pathlib import Path

import pytest
from huggingface_hub import constants

from its import registry
from its.cli import main
from its.errors import UserError
from its.evaluation import scoring
from its.evaluation.choosing import build_scorers
from its.runs.reader import complete_samples, roles_of
from its.runs.records import update_record
from its.runs.sample_media import read_picture, read_sound
from its_plugins.random_weights import dual_encoders as random_towers

_spec = importlib.util.spec_from_file_location("evaluation_runs", Path(__file__).with_name("conftest.py"))
_runs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_runs)
PAIRS, record_of, write_sample = _runs.PAIRS, _runs.record_of, _runs.write_sample

registry.load_plugins()


@pytest.fixture(scope="session")
def towers(tmp_path_factory):
    """Options for tiny CLIP and CLAP models."""
    folder = tmp_path_factory.mktemp("towers")
    clip, clap = random_towers.clip(folder / "clip"), random_towers.clap(folder / "clap")
    return [
        "--set", f"CLIPScorer.weights={clip}", "--set", "CLIPScorer.revision=null",
        "--set", f"CLAPScorer.weights={clap}", "--set", "CLAPScorer.revision=null", "--device", "cpu",
    ]  # fmt: skip


def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in Path(folder).rglob("*") if p.is_file()}


def test_scores_go_into_records_and_csv_and_all_else_stays(run, towers, capsys):
    before = {path: record_of(path) for path in sorted((run / "samples").iterdir())}
    files = everything(run)
    assert main(["evaluate", str(run), *towers]) == 0
    for path, old in before.items():
        new = record_of(path)
        assert set(new["scores"]) == {"CLIPScorer", "CLAPScorer"}
        for name, role in (("CLIPScorer", "visual"), ("CLAPScorer", "audio")):
            entry = new["scores"][name]
            assert 0 <= entry["score"] <= 1
            assert entry["judges"] == role
            assert len(entry["weights"]["sha256"]) == 64
        assert {**new, "scores": {}} == old
    same = {name: data for name, data in everything(run).items() if name.name in ("spectrogram.png", "audio.wav")}
    assert same == {name: data for name, data in files.items() if name in same}
    rows = list(csv.DictReader((run / "scores.csv").open(encoding="utf-8")))
    assert [row["id"] for row in rows] == [path.name for path in before]
    for row, path in zip(rows, before, strict=True):
        assert float(row["CLAPScorer"]) == record_of(path)["scores"]["CLAPScorer"]["score"]
        assert row["prompt.audio"] == before[path]["prompts"]["audio"]
    assert "| run | method | n | CLIPScorer % | CLAPScorer % |" in capsys.readouterr().out
    assert not list(run.rglob("*.partial"))


def test_samples_are_scored_again_only_for_other_weights(run, towers, tmp_path, monkeypatch):
    assert main(["evaluate", str(run), *towers]) == 0
    asked = []
    score = scoring._score
    monkeypatch.setattr(scoring, "_score", lambda *args: asked.append(len(args[1])) or score(*args))
    assert main(["evaluate", str(run), *towers]) == 0
    assert asked == []
    new = write_sample(run, 3)
    assert main(["evaluate", str(run), *towers]) == 0
    assert asked == [1, 1]
    assert set(record_of(new)["scores"]) == {"CLIPScorer", "CLAPScorer"}
    other = random_towers.clip(tmp_path / "other", seed=7)
    assert main(["evaluate", str(run), *towers, "--set", f"CLIPScorer.weights={other}"]) == 0
    assert asked == [1, 1, 5]


def test_a_score_does_not_depend_on_the_batch(run, towers, monkeypatch):
    assert main(["evaluate", str(run), *towers]) == 0
    together = {p: record_of(p)["scores"] for p in sorted((run / "samples").iterdir())}
    monkeypatch.setattr(scoring, "CHUNK", 1)
    for path in together:
        (path / "sample.json").write_text(json.dumps(record_of(path) | {"scores": {}}), encoding="utf-8")
    assert main(["evaluate", str(run), *towers]) == 0
    for path, scores in together.items():
        for name, entry in scores.items():
            assert record_of(path)["scores"][name]["score"] == pytest.approx(entry["score"], abs=1e-5)


def test_stereo_and_other_rates(tmp_path, towers):
    stereo = write_sample(tmp_path / "run", 1, rate=44_100, channels=2)
    assert main(["evaluate", str(tmp_path / "run"), *towers]) == 0
    assert {entry["judges"] for entry in record_of(stereo)["scores"].values()} == {"visual", "audio"}
    sound, rate = read_sound(stereo / "audio.wav")
    assert (sound.shape, rate) == ((22_050,), 44_100)
    assert read_picture(stereo / "spectrogram.png").shape == (64, 96)


def test_failed_samples_are_passed_over(run, towers):
    failed = write_sample(run, 9, status="failed")
    (failed / "audio.wav").unlink()
    assert main(["evaluate", str(run), *towers]) == 0
    assert record_of(failed)["scores"] == {}


def test_no_prompt_no_score(tmp_path, towers, capsys):
    write_sample(tmp_path / "run", 1)
    empty = write_sample(tmp_path / "run", 2, ("", "bell ringing"))
    assert main(["evaluate", str(tmp_path / "run"), *towers]) == 0
    assert record_of(empty)["scores"]["CLIPScorer"]["score"] is None
    assert "CLIPScorer" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda run: ["nowhere"], "nowhere has no folder samples"),
        (lambda run: [str(run), str(run)], "is given twice"),
        (lambda run: [str(run), "--scorers", "ClipScore"], "Did you mean CLIPScorer"),
        (lambda run: [str(run), "--scorers", "DDIM"], "DDIM is a Scheduler"),
        (lambda run: [str(run), "--set", "CLIPScorer.wights=x"], "no argument wights.*Did you mean weights"),
        (lambda run: [str(run), "--set", "CLIPScorer.batch_size=0"], "CLIPScorer: batch_size is 0"),
        (lambda run: [str(run), "--set", "CLIPScorer"], "expected NAME.ARGUMENT=VALUE"),
        (lambda run: [str(run), "--device", "toaster"], "device is 'toaster'"),
        (lambda run: [str(run), "--best", "0"], "best is 0"),
        (lambda run: [str(run), "--best", "1", "--rank_by", "smell"], "by contains 'smell', which has no scorer"),
        (lambda run: (next(run.glob("samples/*/audio.wav")).unlink(), [str(run)])[1], "lacks audio.wav"),
        (
            lambda run: ([p.unlink() for p in run.rglob("sample.json")], [str(run)])[1],
            "has no samples: .*without a readable",
        ),
    ],
)
def test_wrong_input_is_one_message_and_nothing_changes(run, towers, capsys, change, message):
    arguments = change(run)
    before = everything(run)
    assert main(["evaluate", *towers, *arguments]) == 2
    error = capsys.readouterr().err
    assert re.search(message, error)
    assert error.count("\n") == 1
    assert everything(run) == before


def test_a_damaged_picture_is_named(run, towers, capsys):
    broken = next(run.glob("samples/*/spectrogram.png"))
    broken.write_bytes(b"no picture")
    assert main(["evaluate", str(run), *towers]) == 2
    assert f"{broken} can't be read" in capsys.readouterr().err


def test_a_picture_bomb_is_refused(run, towers, capsys, monkeypatch):
    from its.media import decode

    monkeypatch.setattr(decode, "MOST_PIXELS", 64 * 96 - 1)
    assert main(["evaluate", str(run), *towers]) == 2
    assert "expected 6,143 at most" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["CLIPScorer", "CLAPScorer"])
def test_the_error_for_missing_weights_has_key_and_remedy(run, towers, capsys, monkeypatch, name):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = everything(run)
    assert main(["evaluate", str(run), *towers, "--set", f"{name}.weights=nobody/nothing"]) == 2
    error = capsys.readouterr().err
    for part in (
        f"its: {name}: nobody/nothing is not on this machine, and HF_HUB_OFFLINE is set",
        "Unset it",
        f"--set {name}.weights=FOLDER",
        "--scorers mini",
    ):
        assert part in error
    assert everything(run) == before


def test_the_fallback_is_taken_as_a_whole_and_loudly(run, towers, capsys):
    nowhere = ["--set", "CLAPScorer.weights=nobody/nowhere"]
    assert main(["evaluate", str(run), *towers, *nowhere, "--fallback", "mini"]) == 0
    told = capsys.readouterr()
    (warned,) = [line for line in told.err.splitlines() if "WARNING" in line]
    for part in (
        "MiniPictureJudge, MiniSoundJudge",
        "pack mini",
        "CLAPScorer: nobody/nowhere",
        "use a local folder",
    ):
        assert part in warned
    assert "CLIPScorer" not in told.out
    assert "neither CLIP nor CLAP" in told.out
    for path in (run / "samples").iterdir():
        assert set(record_of(path)["scores"]) == {"MiniPictureJudge", "MiniSoundJudge"}


def test_roles_as_the_record_says_or_by_name_or_by_class():
    assert roles_of({"roles": {"visual": "eye"}, "prompts": {"visual": "x"}}) == {"visual": "eye"}
    assert roles_of({"prompts": {"audio": "x", "visual": "y"}}) == {"visual": "visual", "audio": "audio"}
    experts = {
        "left": {"class": "StableDiffusion"},
        "right": {"class": "StableDiffusion"},
        "ear": {"class": "View", "expert": {"class": "Auffusion"}},
    }
    old = {"prompts": {"left": "a", "right": "b", "ear": "c"}, "settings": {"experts": experts}}
    assert roles_of(old) == {"visual": "left", "audio": "ear"}
    assert roles_of({"prompts": {"x": "a"}, "settings": {"experts": {"x": {"class": "Unknown"}}}}) == {}


def test_scorers_by_mapping_and_by_pack():
    (clip,) = build_scorers([{"class_path": "CLIPScorer", "init_args": {"weights": "here", "batch_size": 3}}])
    assert (clip.weights, clip.batch_size) == ("here", 3)
    assert [type(scorer).__name__ for scorer in build_scorers(["mini"])] == ["MiniPictureJudge", "MiniSoundJudge"]
    with pytest.raises(UserError, match="given twice"):
        build_scorers(["mini", "MiniSoundJudge"])
    with pytest.raises(UserError, match="expected NAME, or {class_path: NAME"):
        build_scorers([{"class": "CLIPScorer"}])


def test_updating_a_record_keeps_concurrent_changes(run):
    found, *_ = complete_samples([run])
    now = record_of(found.folder) | {"video": {"frames": 3}, "scores": {"Other": {"score": 0.5}}}
    (found.folder / "sample.json").write_text(json.dumps(now), encoding="utf-8")
    update_record(found.folder, {"scores": {"Mine": {"score": 0.25}}})
    assert record_of(found.folder) == now | {"scores": {"Other": {"score": 0.5}, "Mine": {"score": 0.25}}}


def test_a_table_needs_scores(run, capsys):
    assert main(["table", str(run)]) == 2
    assert "no sample has a score" in capsys.readouterr().err


def test_a_foreign_table_is_not_overwritten(run, towers, capsys):
    (run / "scores.csv").write_text("name,grade\n")
    before = everything(run)
    assert main(["evaluate", str(run), *towers]) == 2
    assert re.search("scores.csv .*not written by .*move it away", capsys.readouterr().err)
    assert everything(run) == before  # and nothing was scored
