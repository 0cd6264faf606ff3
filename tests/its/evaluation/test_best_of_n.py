"""The keys `scorers` and `keep` of `its predict`, with tiny models."""

import csv
import json
import re
from pathlib import Path

import pytest
import torch
import yaml

from its import registry
from its.cli import main
from its.diffusion.sampling import denoise
from its.engine.build import build
from its.evaluation.pruning import PruningRunner
from its.evaluation.ranking import Keep, Prune
from its.interfaces import Combiner
from its.methods.post_process import Clock
from its_plugins.random_weights import dual_encoders as random_towers
from its_plugins.schedulers.ddim import DDIM

registry.load_plugins()


@pytest.fixture(scope="module")
def scorers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("towers")
    made = {"CLIPScorer": random_towers.clip(folder / "clip"), "CLAPScorer": random_towers.clap(folder / "clap")}
    return [{"class_path": n, "init_args": {"weights": str(p), "revision": None}} for n, p in made.items()]


@pytest.fixture
def job(config, scorers, tmp_path):
    """Return arguments of `its predict` for four seeds of a prompt pair, with further keys of the config."""

    def arguments(output="run", **keys):
        content = yaml.safe_load(config.read_text()) | {"scorers": scorers, "output": output} | keys
        content["data"]["seeds"] = [1, 2, 3, 4]
        path = tmp_path / f"{output}.yaml"
        path.write_text(yaml.safe_dump(content))
        return ["predict", "--config", str(path)]

    return arguments


def records(run):
    found = [json.loads(path.read_text(encoding="utf-8")) for path in run.glob("samples/*/sample.json")]
    return {record["seed"]: record for record in found}


PRUNED = {"best": 1, "prune": {"at": [0.5], "leave": 0.5}}


def test_samples_are_scored_and_ranked_after_sampling(job, tmp_path, capsys):
    assert main(job(keep={"best": 2})) == 0
    found = records(tmp_path / "run")
    assert sorted(record["rank"] for record in found.values()) == [1, 2, 3, 4]
    assert sum(record["kept"] for record in found.values()) == 2
    assert all(set(record["scores"]) == {"CLIPScorer", "CLAPScorer"} for record in found.values())
    rows = list(csv.DictReader((tmp_path / "run/ranking.csv").open(encoding="utf-8")))
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4"]
    assert "kept the best 2 of 4 samples of 1 prompt pairs" in capsys.readouterr().err
    assert main(job(keep={"best": 2})) == 0  # resumed: nothing is made or scored again
    assert records(tmp_path / "run") == found
    again = ["predict", "--config", str(tmp_path / "run/its_config.yaml"), "--output", str(tmp_path / "again")]
    assert main(again) == 0
    assert {s: r["rank"] for s, r in records(tmp_path / "again").items()} == {s: r["rank"] for s, r in found.items()}


def test_a_scorer_that_cant_be_loaded_is_an_error_before_anything_is_made(job, tmp_path, monkeypatch, capsys):
    def broken(self):
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(registry.classes("Scorer")["CLAPScorer"], "read", broken)
    assert main(job(keep=PRUNED)) == 2
    assert "CLAPScorer can't be loaded: RuntimeError: no such kernel" in capsys.readouterr().err
    assert not list((tmp_path / "run").glob("samples/*"))


def test_the_table_of_scores_holds_the_samples_of_earlier_runs_too(job, tmp_path):
    assert main(job()) == 0
    assert main([*job(), "--data.seeds=[5]"]) == 0
    rows = list(csv.DictReader((tmp_path / "run/scores.csv").open(encoding="utf-8")))
    assert sorted(row["seed"] for row in rows) == ["1", "2", "3", "4", "5"]
    assert all(row["CLIPScorer"] for row in rows)


def test_the_worse_half_is_stopped_and_the_others_are_unchanged(job, tmp_path, capsys):
    assert main(job("whole")) == 0
    capsys.readouterr()
    assert main(job("pruned", keep=PRUNED)) == 0
    told = capsys.readouterr()
    whole, pruned = records(tmp_path / "whole"), records(tmp_path / "pruned")
    stopped = {seed for seed, record in pruned.items() if record["status"] == "stopped"}
    assert len(stopped) == 2
    for seed, record in pruned.items():
        mine = tmp_path / "pruned/samples" / record["id"]
        if seed in stopped:
            assert record["stopped"]["step"] == 3
            assert set(record["stopped"]["scores"]) == {"CLIPScorer", "CLAPScorer"}
            assert [path.name for path in mine.iterdir()] == ["sample.json"]
            # 3 guided steps of the audio expert alone: 3 x 2 evaluations; then 3 of both experts: 3 x 4
            assert record["evaluations"] == {"made": 6, "whole": 18}
            continue
        assert record["evaluations"] == {"made": 18, "whole": 18}
        picture = tmp_path / "whole/samples" / whole[seed]["id"] / "spectrogram.png"
        assert (mine / "spectrogram.png").read_bytes() == picture.read_bytes()
    assert sum(record.get("kept", False) for record in pruned.values()) == 1
    assert "2 of 4 samples were stopped early: 48 of 72 network evaluations were made, which saved 33%" in told.err
    assert "2 of 4 images that sound" in told.out
    assert "2 were stopped early" in told.out

    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "pruned").rglob("*.png")}
    assert main(job("pruned", keep=PRUNED)) == 0  # what was stopped stays stopped
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "pruned").rglob("*.png")} == before
    assert main(job("pruned")) == 0  # without pruning it is made
    assert {record["status"] for record in records(tmp_path / "pruned").values()} == {"ok"}


def method_of(job, **keys):
    cli = build([Path(job(**keys)[2])], [])
    cli.model.configure_model()
    return cli.model, cli.datamodule.rows


def test_evaluations_equal_the_calls_of_the_networks(job, monkeypatch):
    method, rows = method_of(job)
    asked = {}
    for name, expert in method.named_experts():
        predict = expert.predict_noise
        asked[name] = 0

        def counted(latents, timestep, text, predict=predict, name=name):
            asked[name] += len(latents)
            return predict(latents, timestep, text)

        monkeypatch.setattr(expert, "predict_noise", counted)
    for scale, interval in ((7.5, None), (1.0, None), (7.5, (0.3, 0.8))):
        method.guidance_interval = interval
        some = list(rows[:2])
        for row in some:
            row.guidance_scale = {"visual": scale, "audio": 7.5}
        asked |= dict.fromkeys(asked, 0)
        with torch.inference_mode():
            _, noise = method.first_latents(some)
            method.denoise_latents(some, noise, clock=Clock(method.device), part=range(1, 5))
        assert sum(asked.values()) == 2 * method.evaluations(some[0], range(1, 5))


def test_a_process_in_parts_is_the_whole_process(job):
    method, rows = method_of(job)
    with torch.inference_mode():
        _, noise = method.first_latents(rows)
        whole = method.denoise_latents(rows, noise, clock=Clock(method.device))
        z = noise
        for part in (range(2), range(2, 5), range(5, 6)):
            z = method.denoise_latents(rows, z, clock=Clock(method.device), part=part)
    assert torch.equal(z, whole)


class _Sum(Combiner):
    def weights(self, progress):
        return {"one": 1.0}


def test_the_clean_latents_of_a_right_estimate_are_the_clean_latents():
    scheduler = DDIM()
    clean, noise = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8)
    steps = []
    denoise(
        scheduler.plan(20).add_noise(clean, noise, 0),
        experts={"one": lambda z, t: noise},
        combiner=_Sum(),
        scheduler=scheduler,
        steps=20,
        part=range(0, 7),
        on_step=steps.append,
    )
    assert len(steps) == 7
    assert all(torch.allclose(step.predict_clean(), clean, atol=1e-4) for step in steps)


def test_after_an_error_in_pruning_all_samples_are_made(job, tmp_path, monkeypatch, capsys):
    def fail(*args):
        raise RuntimeError("broken scorer")

    monkeypatch.setattr(PruningRunner, "_scores", fail)
    assert main(job(keep=PRUNED)) == 0
    assert {record["status"] for record in records(tmp_path / "run").values()} == {"ok"}
    assert "pruning failed (RuntimeError: broken scorer); making all 4" in capsys.readouterr().err


def test_a_check_that_would_stop_no_sample_is_skipped(job, tmp_path, monkeypatch):
    monkeypatch.setattr(PruningRunner, "_advance", lambda *args: pytest.fail("advanced"))
    assert main(job(keep=PRUNED | {"best": 4})) == 0
    assert {record["status"] for record in records(tmp_path / "run").values()} == {"ok"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keep": {"best": 0}}, "best is 0; expected 1 or more"),
        ({"keep": {"best": 1, "by": ["smell"]}}, "by contains 'smell', which has no scorer"),
        ({"keep": {"best": 1, "prune": {"at": [0.5, 0.2]}}}, "prune.at is .*ascending"),
        ({"keep": {"best": 1, "prune": {"leave": 1.5}}}, "prune.leave is 1.5"),
        ({"keep": {"bets": 1}}, "bets"),
        ({"scorers": ["CLIPScorr"]}, "Did you mean CLIPScorer"),
        ({"scorers": [{"class_path": "CLIPScorer", "init_args": {"weights": "nobody/nowhere"}}]}, "--scorers mini"),
    ],
)
def test_wrong_keys_are_one_message_before_anything_is_made(job, tmp_path, capsys, change, message):
    assert main(job(**change)) == 2
    assert re.search(message, capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            {"scheduler": {"class_path": "DiffusersScheduler", "init_args": {"name": "UniPCMultistepScheduler"}}},
            "DiffusersScheduler keeps state from step to step",
        ),
        ({"compile": True}, "can't be used with model.compile"),
    ],
)
def test_unsupported_pruning_is_an_error(job, tmp_path, capsys, model, message):
    arguments = job(keep=PRUNED)
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump({"model": model}))
    assert main([*arguments, "--config", str(overlay)]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_half_of_a_rung_is_rounded_up_and_at_least_the_number_to_keep(job):
    keep = Keep(best=3, prune=Prune(at=[0.34, 0.67]))
    assert (keep.prune.leave, keep.by) == (0.5, ["visual", "audio"])
