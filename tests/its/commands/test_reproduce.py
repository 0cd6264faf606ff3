"""`its reproduce`: the plan, and a complete run on tiny models."""

import json
import re
from pathlib import Path

import pytest
import yaml

from its.cli import main
from its.evaluation import reproduction
from its.evaluation.paper import EXPERIMENTS
from its_plugins.random_weights import dual_encoders as random_towers

ROOT = Path(__file__).parents[3]
OURS = ["--rows", "visual_only", "audio_only", "multimodal_denoising"]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_the_papers_figures():
    """Tables 1 and 3, typed once more from the paper."""
    table1 = {row.label: (row.clip, row.clap) for row in EXPERIMENTS["table1"]}
    assert table1 == {
        "Stable Diffusion alone": ("34.5 (0.1)", "2.2 (0.2)"),
        "Auffusion alone": ("22.5 (0.1)", "48.3 (0.6)"),
        "Imprint": ("27.2 (0.2)", "32.3 (1.0)"),
        "SDS": ("25.4 (0.2)", "23.4 (1.4)"),
        "multimodal denoising": ("28.2 (0.1)", "33.5 (0.9)"),
    }
    assert [(r.clip, r.clap) for r in EXPERIMENTS["table3-guidance"]] == [
        ("28.0", "29.3"), ("28.2", "31.9"), ("28.2", "33.5"),
    ]  # fmt: skip
    assert [(r.clip, r.clap) for r in EXPERIMENTS["table3-warm-start"]] == [
        ("28.7", "30.8"), ("29.0", "27.4"), ("28.2", "33.5"), ("27.4", "35.9"),
    ]  # fmt: skip
    assert [r.clap for r in EXPERIMENTS["vocoders"]] == ["33.5 (0.9)", "30.2"]


def test_a_dry_run_says_commands_samples_and_time_and_makes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(reproduction, "_benchmark", lambda: None)
    assert main(["reproduce", "table1", "--dry_run", *OURS, "--output", str(tmp_path), "--trainer.devices", "4"]) == 0
    told = capsys.readouterr().out
    assert re.findall(r"^its predict .*?--output=\S+/(\w+) --model.fallback=null --trainer.devices 4$", told, re.M) == [
        "visual_only", "audio_only", "multimodal_denoising",
    ]  # fmt: skip
    assert told.count("1000 samples, about 3 hours at 10 s each") == 3
    assert "3000 samples of the paper's protocol, about 8 hours on one GPU by the paper's times" in told
    assert list(tmp_path.iterdir()) == []


def test_the_benchmarks_figure_is_used_if_available(tmp_path, monkeypatch, capsys):
    figures = {"ours, batch 1 | samples/s": {"value": 0.5}, "ours, batch 8 | samples/s": {"value": 2.0},
               "authors | samples/s": {"value": 9.0}, "ours, batch 32 | samples/s": "out of memory"}  # fmt: skip
    content = {"machine": {"gpu": "a fast one"}, "parts": {"compare": {"figures": figures}}}
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    (results / "gpu.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(reproduction, "ROOT", tmp_path)
    assert main(["reproduce", "vocoders", "--dry_run"]) == 0
    told = capsys.readouterr().out
    assert "1000 samples, about 8 minutes at 0.5 s each" in told
    assert "gpu.json, a fast one" in told


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rows", "imprnt"], "expected some of visual_only, audio_only"),
        (["--configs", "nowhere"], "nowhere/paper/table1.yaml does not exist: set --configs"),
        ([*OURS, "--scorers", "ClipScorer"], "Did you mean CLIPScorer"),
        ([*OURS, "--set", "CLIPScorer.weights=./nowhere"], r"CLIPScorer: weights: \./nowhere"),
    ],
)
def test_wrong_input_is_one_message_before_hours_of_sampling(tmp_path, capsys, arguments, message):
    assert main(["reproduce", "table1", "--output", str(tmp_path / "out"), *arguments]) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


@pytest.fixture
def rehearsal(config, tmp_path):
    """Options that replace the paper's models by tiny ones, and its hundred prompt pairs by two."""
    tiny = yaml.safe_load(config.read_text())
    overlay = tmp_path / "tiny.yaml"
    prompts = {"visual": ["castle towers", "a dog"], "audio": ["bell ringing"]}
    model = tiny["model"] | {"trim": 32}
    overlay.write_text(yaml.safe_dump({"model": model, "data": {"prompts": prompts}, "trainer": tiny["trainer"]}))
    clip, clap = random_towers.clip(tmp_path / "clip"), random_towers.clap(tmp_path / "clap")
    settings = [f"CLIPScorer.weights={clip}", "CLIPScorer.revision=null", f"CLAPScorer.weights={clap}",
                "CLAPScorer.revision=null"]  # fmt: skip
    options = ["--config", str(overlay), "--output", str(tmp_path / "out"), "--device", "cpu"]
    return [*options, *(part for setting in settings for part in ("--set", setting)), "--data.seeds=[1, 2]"]


def test_table_1_from_samples_to_our_figures_beside_the_papers(rehearsal, tmp_path, capsys):
    assert main(["reproduce", "table1", *OURS, *rehearsal]) == 0
    told = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in told.out.splitlines() if line.startswith("|")]
    assert rows[0] == ["method", "n", "CLIPScorer %", "paper's %", "CLAPScorer %", "paper's %"]
    assert [(row[0], row[1], row[3], row[5]) for row in rows[2:]] == [
        ("Stable Diffusion alone", "4", "34.5 (0.1)", "2.2 (0.2)"),
        ("Auffusion alone", "4", "22.5 (0.1)", "48.3 (0.6)"),
        ("multimodal denoising", "4", "28.2 (0.1)", "33.5 (0.9)"),
    ]
    assert (tmp_path / "out/visual_only/scores.csv").exists()
    records = [json.loads(path.read_text()) for path in (tmp_path / "out/visual_only").rglob("sample.json")]
    assert {record["settings"]["combiner"]["class"] for record in records} == {"ScheduledAverage"}
    pictures = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")}
    assert main(["reproduce", "table1", *OURS, *rehearsal]) == 0  # goes on: there is nothing left to do
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.png")} == pictures
    assert capsys.readouterr().out.splitlines()[-8:] == told.out.splitlines()[-8:]


def test_samples_of_a_sweep_are_grouped_by_setting_and_the_judge_has_no_figures_of_the_paper(rehearsal, capsys):
    judge = [argument for argument in rehearsal if argument != "--set" and not argument.startswith(("CLIP", "CLAP"))]
    judge += ["--scorers", "MiniPictureJudge"]
    assert main(["reproduce", "table3-guidance", *judge]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert rows[0] == "| method | n | MiniPictureJudge % |"
    assert [row.split("|")[1].strip() for row in rows[2:]] == ["guidance 5", "guidance 7.5", "guidance 10"]
    assert main(["reproduce", "table3-guidance", *judge, "--table", "csv"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("guidance ")]
    assert len({line.partition(",")[2] for line in lines}) == 3
