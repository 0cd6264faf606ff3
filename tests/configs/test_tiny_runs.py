"""Run complete configs with other experts and combiners than the paper's, in small and with random weights."""

import json
import shlex
from pathlib import Path

import pytest
import yaml

from its import registry
from its.cli import main
from its_plugins.random_weights.stable_diffusion import stable_diffusion

ROOT = Path(__file__).parents[2]
CONFIGS = (
    "configs/methods/visual_only.yaml",
    "configs/methods/audio_only.yaml",
    "configs/three_experts.yaml",
    "configs/backwards.yaml",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "configs" / "combiners").glob("*.yaml")),
)


@pytest.fixture(scope="module")
def random_mini(tmp_path_factory):
    """Random weights in the layout of the embedded pack, with its own overlay."""
    folder = tmp_path_factory.mktemp("pack")
    return stable_diffusion(folder, unets=("unet", "unet_audio"))


@pytest.fixture
def run(random_mini, tmp_path, monkeypatch):
    """Run the command of a config, in small and with random weights; return the records of its samples."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    registry.load_plugins()
    pack = registry.packs()["mini"]
    monkeypatch.setitem(
        registry._packs, "mini", registry.Pack(name="mini", folder=random_mini, config=pack.config, summary="random")
    )

    def make(command, *more):
        program, *arguments = shlex.split(command)
        assert program == "its"
        small = ["--model.steps=3", "--model.canvas=[256,64]", "--model.trim=0", "--data.seeds=[1]"]
        small += ["--model.vocoder=GriffinLim", "--model.vocoder.init_args.iterations=1", f"--output={tmp_path}/run"]
        assert main([*arguments, *small, *more]) == 0
        return [json.loads(path.read_text()) for path in (tmp_path / "run").glob("samples/*/sample.json")]

    return make


@pytest.mark.parametrize("config", CONFIGS)
def test_config_runs_on_the_pack(run, config):
    command = (ROOT / config).read_text(encoding="utf-8").splitlines()[1].removeprefix("# ")
    fewer_turns = ["--model.combiner.init_args.turns=3"] if "alternation" in config else []
    (record,) = run(command, "--save=[cycle]", *fewer_turns)
    assert record["status"] == "ok"
    assert record["fallback"]
    assert record["cycle"]["vocoder"] == "GriffinLim"
    content = yaml.safe_load((ROOT / config).read_text(encoding="utf-8"))
    assert record["settings"]["combiner"]["class"] == content["model"]["combiner"]["class_path"]


@pytest.mark.parametrize("alone", ["visual", "audio"])
def test_single_experts_keep_both_prompts_and_go_over_other_configs(run, alone):
    (record,) = run(f"its predict --config configs/tiger_growl.yaml --config configs/methods/{alone}_only.yaml")
    assert set(record["prompts"]) == {"visual", "audio"}
    assert {name: w for name, w in record["settings"]["combiner"]["weights"].items() if w} == {alone: 1.0}


def test_a_run_with_nested_plugins_is_made_again_from_its_own_config(run, tmp_path):
    (first,) = run("its predict --config configs/backwards.yaml")
    again = run(f"its predict --config {tmp_path}/run/its_config.yaml")
    assert [record["id"] for record in again] == [first["id"]]
    backwards = first["settings"]["experts"]["backwards"]
    assert (backwards["class"], backwards["flips"], backwards["expert"]["class"]) == ("View", ["time"], "Auffusion")


def test_arguments_of_a_wrapped_expert_can_be_set_on_the_command_line(run):
    flag = "--model.experts.backwards.init_args.expert.init_args.channels_last=true"
    command = (
        f"its predict --config configs/backwards.yaml {flag} --model.experts.backwards.init_args.flips=[frequency]"
    )
    for expert in ("forwards.init_args", "backwards.init_args.expert.init_args"):
        command += f" --model.experts.{expert}.weights=pack:mini --model.experts.{expert}.unet_folder=unet_audio"
    (record,) = run(command)
    assert record["fallback"] is None
    assert record["settings"]["experts"]["backwards"]["flips"] == ["frequency"]
    assert all(weights["embedded"] for weights in record["weights"].values())
