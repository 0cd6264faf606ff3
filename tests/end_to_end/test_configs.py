"""Every config that names weights of the hub runs on them, made small."""

import hub_trees
import pytest
from hub_runs import ROOT, SMALL

ONE_PAIR = "--data.prompts=[{visual: a painting of castle towers, audio: bell ringing}]"
NO_SWEEP = "--data.sweep={}"
COLOR = [f"--model.colorizer.init_args.{setting}" for setting in ("steps=2", "start=1")]
DISTILLATION = [
    *("--model.iterations=2", "--model.probes=1", "--model.network={width: 16}"),
    *(f"--model.guides.visual.{setting}" for setting in ("begin=0", "crops=1")),
]
EAGER = ["--model.compile=false", "--model.cuda_graph=false"]  # compiling takes a minute, and graphs need a GPU

COMMITS = {
    hub_trees.STABLE_DIFFUSION: hub_trees.COMMITS[hub_trees.STABLE_DIFFUSION, "main"],
    hub_trees.AUFFUSION: hub_trees.COMMITS[hub_trees.AUFFUSION, "main"],
    hub_trees.RIFFUSION: hub_trees.COMMITS[hub_trees.RIFFUSION, "refs/pr/11"],
    hub_trees.SCRIBBLE: hub_trees.COMMITS[hub_trees.SCRIBBLE, "main"],
    hub_trees.IF_1: hub_trees.COMMITS[hub_trees.IF_1, "main"],
    hub_trees.IF_2: hub_trees.COMMITS[hub_trees.IF_2, "main"],
}
"""Commits that records have to name."""


def names(folder):
    return sorted(path.relative_to(ROOT / "configs").as_posix() for path in (ROOT / "configs" / folder).glob("*.yaml"))


OVERLAYS = ("colorize.yaml", "fast.yaml", "long.yaml", "loop.yaml", "outline.yaml", "transition.yaml")
DEMOS = [name for name in names(".") if name not in OVERLAYS]
CASES = {
    **{name: [] for name in DEMOS},
    **{name: [ONE_PAIR] for name in names("examples")},
    **{name: [ONE_PAIR, NO_SWEEP] for name in names("paper")},
    "models/paper.yaml": [ONE_PAIR],
    "models/riffusion.yaml": [ONE_PAIR, "--model.canvas=[512,64]", "--model.vocoder.init_args.iterations=1"],
    "castle_bell.yaml+colorize.yaml": COLOR,
    "castle_bell.yaml+methods/visual_only.yaml": [],
    "castle_bell.yaml+methods/audio_only.yaml": [],
    "castle_bell.yaml+methods/imprint.yaml": ["--model.steps={visual: 2, audio: 2}"],
    "castle_bell.yaml+methods/sds.yaml": [*DISTILLATION, "--model.guides.visual.crop=[64,64]"],
    "castle_bell.yaml+methods/sds_small.yaml": DISTILLATION,
    "castle_bell.yaml+combiners/alternation.yaml": ["--model.steps=3", "--model.combiner.init_args.turns=3"],
    "castle_bell.yaml+combiners/fade.yaml": [],
    "castle_bell.yaml+fast.yaml": EAGER,
    "castle_bell.yaml+long.yaml": ["--model.canvas=[256,128]", "--model.windows={width: 64, stride: 32}"],
    "castle_bell.yaml+loop.yaml": [],
    "castle_bell.yaml+outline.yaml": [f"--data.control.image={ROOT}/docs/examples/outline.png"],
    "castle_bell.yaml+transition.yaml": ["--model.canvas=[256,128]", "--model.windows={width: 64, stride: 32}"],
    "castle_bell.yaml+fast/dpm25.yaml": [],
    "castle_bell.yaml+fast/guidance_interval.yaml": [],
    "castle_bell.yaml+fast/unipc25.yaml": [],
}
NOT_FROM_THE_HUB = {"models/mini.yaml", "models/mini_color.yaml"}


def test_no_config_is_left_out():
    kinds = (".", "combiners", "examples", "fast", "methods", "models", "paper")
    found = {name for kind in kinds for name in names(kind)}
    assert found - NOT_FROM_THE_HUB == {part for name in CASES for part in name.split("+")}


@pytest.mark.parametrize("config", CASES)
def test_a_config_runs_on_the_weights_that_it_names(world, config):
    world.log_in()
    small = [option for option in SMALL if "sds" not in config or "steps" not in option]
    record = world.made(*CASES[config], config=config, small=small)
    assert record["fallback"] is None
    nets = [net for weights in record["weights"].values() for net in weights.pop("control", [])]
    for weights in (*record["weights"].values(), *nets):
        assert set(weights) <= {"name", "revision", "files"}
        repositories = weights["name"].split(" + ")
        assert weights["revision"] == " + ".join(COMMITS[repository] for repository in repositories)


def test_parts_of_the_main_job_are_recorded(world):
    weights = world.made()["weights"]
    assert {key: record["name"] for key, record in weights.items()} == {
        "experts.visual": hub_trees.STABLE_DIFFUSION,
        "experts.audio": hub_trees.AUFFUSION,
        "codec": hub_trees.STABLE_DIFFUSION,
        "sound_codec": hub_trees.AUFFUSION,
        "vocoder": hub_trees.AUFFUSION,
    }
