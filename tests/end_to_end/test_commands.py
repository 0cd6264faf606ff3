"""Other commands than `its predict` with weights of the hub."""

import hub_trees
import pytest
from hub_runs import ROOT, SMALL

LICENCE = "https://huggingface.co/DeepFloyd/IF-I-XL-v1.0"
CASTLE = f"--config={ROOT}/configs/castle_bell.yaml"


def findings(outcome):
    """Lines of `its doctor` on weights, by repository."""
    lines = [line for line in outcome.out.splitlines() if line.split(maxsplit=2)[1:2] == ["weights"]]
    return {line.split()[2]: line for line in lines}


def test_evaluate_downloads_both_scorers_at_their_commits(cached):
    cached.made()
    cached.hub.forget()
    outcome = cached.its("evaluate", cached.run)
    assert outcome.status == 0, outcome.err
    (record,) = cached.records()
    clip, clap = (record["scores"][name] for name in ("CLIPScorer", "CLAPScorer"))
    for score, name, ref, file in (
        (clip, hub_trees.CLIP, "main", "pytorch_model.bin"),
        (clap, hub_trees.CLAP, "safetensors", "model.safetensors"),
    ):
        assert score["weights"] == {"name": name, "revision": hub_trees.COMMITS[name, ref], "files": [file]}
    assert 0 <= clip["score"] <= 1
    assert 0 <= clap["score"] <= 1
    assert cached.weights_served() == [f"{hub_trees.CLAP}/model.safetensors", f"{hub_trees.CLIP}/pytorch_model.bin"]
    assert f"its: downloading {hub_trees.CLIP} at 57c2164: " in outcome.err

    cached.disconnect()
    assert cached.its("evaluate", cached.run).status == 0


def test_evaluate_without_a_hub_is_one_message(cached):
    cached.made()
    cached.disconnect()
    message = cached.its("evaluate", cached.run).message
    assert f"{hub_trees.CLIP} is not on this machine" in message
    assert "--scorers mini" in message


def test_scorers_of_a_run_are_downloaded_with_its_models(cached):
    outcome = cached.predict("--scorers=[CLIPScorer, CLAPScorer]")
    assert outcome.status == 0, outcome.err
    (record,) = cached.records()
    assert set(record["scores"]) == {"CLIPScorer", "CLAPScorer"}


def test_the_plan_of_a_reproduction_needs_no_network(fresh):
    outcome = fresh.its("reproduce", "table1", "--dry_run", f"--output={fresh.run}", f"--configs={ROOT}/configs")
    assert outcome.status == 0
    assert "multimodal_denoising" in outcome.out
    assert outcome.out.count("its predict ") == 5
    assert fresh.hub.requests == []
    assert not fresh.run.exists()


def test_a_reproduction_in_small(world):
    small = [option for option in SMALL if "fallback" not in option]
    prompts = '--data.prompts=[{visual: "a painting of dog", audio: "dog barking"}]'
    rows = ["--rows", "multimodal_denoising", "visual_only"]
    outcome = world.its("reproduce", "table1", *rows, f"--output={world.run}", *small, prompts)
    assert outcome.status == 0, outcome.err
    assert "Stable Diffusion alone" in outcome.out
    assert "embedded" not in outcome.out


def test_doctor_names_sizes_and_the_gated_repository(fresh):
    outcome = fresh.its("doctor", f"--output={fresh.run}")
    assert outcome.status == 0, outcome.out
    assert "the Hugging Face hub is reachable" in outcome.out
    said = findings(outcome)
    open_ones = (
        hub_trees.STABLE_DIFFUSION,
        hub_trees.AUFFUSION,
        hub_trees.RIFFUSION,
        hub_trees.CLIP,
        hub_trees.CLAP,
    )
    for repository in open_ones:
        assert "B to download: the first run that needs them downloads them" in said[repository]
    assert "1.18 MB to download" in said[hub_trees.STABLE_DIFFUSION]
    assert "1.78 MB to download" in said[hub_trees.AUFFUSION]
    assert LICENCE in said[hub_trees.IF_1]
    assert "HF_TOKEN" in said[hub_trees.IF_1]
    assert fresh.weights_served() == []


def test_doctor_of_a_config_names_its_weights_alone(fresh):
    outcome = fresh.its("doctor", CASTLE, f"--output={fresh.run}")
    assert outcome.status == 0
    assert set(findings(outcome)) == {hub_trees.STABLE_DIFFUSION, hub_trees.AUFFUSION}
    assert "(Auffusion, AutoencoderKLCodec, HiFiGAN)" in findings(outcome)[hub_trees.AUFFUSION]


def test_doctor_of_the_colorizer_with_and_without_a_token(fresh):
    color = f"--config={ROOT}/configs/colorize.yaml"
    said = findings(fresh.its("doctor", CASTLE, color, f"--output={fresh.run}"))
    assert LICENCE in said[hub_trees.IF_1]
    assert LICENCE in said[hub_trees.IF_2]
    fresh.log_in()
    said = findings(fresh.its("doctor", CASTLE, color, f"--output={fresh.run}"))
    assert "kB to download" in said[hub_trees.IF_1]
    assert "kB to download" in said[hub_trees.IF_2]


@pytest.mark.parametrize("config", [[], [CASTLE]])
def test_doctor_without_a_hub(fresh, config):
    fresh.disconnect()
    outcome = fresh.its("doctor", *config, f"--output={fresh.run}")
    assert outcome.status == 0
    assert "no downloads: http://127.0.0.1:" in outcome.out
    for line in findings(outcome).values():
        assert line.startswith("note ")
        assert "is not on this machine" in line
    assert fresh.hub.requests == []


@pytest.mark.parametrize("how", ["closed", "HF_HUB_OFFLINE"])
def test_doctor_finds_everything_in_the_cache_offline(cached, monkeypatch, how):
    if how == "closed":
        cached.disconnect()
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    outcome = cached.its("doctor", CASTLE, f"--output={cached.run}")
    assert outcome.status == 0
    for line in findings(outcome).values():
        assert line.startswith("ok ")
        assert line.endswith("on this machine")
    assert cached.hub.requests == []
