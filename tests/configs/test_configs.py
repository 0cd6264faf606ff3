"""Build the components and specs of every config under configs/ and every command of README and docs.

Files are merged, parsed and instantiated; weights are not loaded.
"""

import os
import re
import shlex
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from its import registry
from its.cli import COMMANDS
from its.config.compose import compose, split_arguments
from its.config.fallback import replace_weights
from its.engine import build as building
from its.errors import UserError
from its.media.packaged import find_file
from its.specs.prompts import PromptGrid

ROOT = Path(__file__).parents[2]
SWEEPS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs" / "sweeps").glob("*.yaml"))
"""Weights & Biases': they hold a command, and no config."""
CONFIGS = sorted({path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml")}.difference(SWEEPS))
PAIRS = (
    "castle_bell",
    "dog_bark",
    "garden_birds",
    "kitten_meow",
    "race_car",
    "train_whistle",
    "tiger_growl",
)
"""Table 5's, in its order."""
DEMOS = (*PAIRS, "three_experts", "backwards")
"""The only configs that fall back to the embedded pack."""
REPRODUCTIONS = sorted(
    path.relative_to(ROOT).as_posix() for name in ("paper", "examples") for path in (ROOT / "configs" / name).iterdir()
)
EXAMPLES = {
    "bell": ("castle_bell", 1234, 100),
    "dog": ("dog_bark", 1234, 100),
    "garden": ("garden_birds", 1234, 100),
    "kitten": ("kitten_meow", 1234, 100),
    "race": ("race_car", 1234, 100),
    "train": ("train_whistle", 1234, 100),
    "tiger": ("tiger_growl", 1234, 100),
    "corgi": (("a painting of corgis, grayscale, black background", "dog barking"), 2034, 50),
    "pond": (("a pond full of water lilies, grayscale, lithograph style", "frog croaking"), 2024, 100),
    "horse": (("a painting of horse heads, grayscale, black background", "horse neighing"), 1234, 1000),
    "garden-v2": (("a painting of a blooming garden, grayscale", "birds singing sweetly"), 1234, 100),
    "default": (("a castle with bell towers, grayscale, lithograph style", "bell ringing"), 2024, 50),
}
"""The authors' examples: the config of the same pair, or its prompts; first seed; number of samples."""


ELSEWHERE = (
    "sbatch configs/slurm/predict.sh ",
    "wandb sweep configs/sweeps/",
    "wandb agent ",
    "torchrun ",
    "python ",
    "pip ",
    "hf auth ",
)
"""Beginnings of commands in the documents that this file does not test."""


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture
def build(monkeypatch):
    """Command -> the command-line interface with its parts and rows, short of weights and trainer."""

    def make_rows(cli):
        cli.rows = cli.datamodule.expand(cli.model.expert_names)

    monkeypatch.setattr(building.Assembly, "find_weights", lambda assembly: None)
    monkeypatch.setattr(building.PredictCLI, "prepare_run", make_rows)
    registry.load_plugins()

    def parse(command):
        program, name, *arguments = shlex.split(command, comments=True)
        assert (program, name) == ("its", "predict")
        files, modules, rest = split_arguments(arguments)
        registry.load_modules(modules)
        return building.build(files, rest, modules)

    return parse


def overlaid(*files):
    return compose(list(map(Path, files))).values


def command_of(file):
    summary, command = Path(file).read_text(encoding="utf-8").splitlines()[:2]
    assert re.fullmatch(r"# [A-Z].*\.", summary), f"{file} must open with a sentence on what it makes, got: {summary}"
    assert command.startswith("# its predict "), f"{file} must have its command on the second line, got: {command}"
    return command.removeprefix("# ")


@pytest.mark.parametrize("file", CONFIGS)
def test_config_opens_with_a_summary_and_a_command_that_names_it_and_parses(build, file):
    command = command_of(file)
    assert Path(file).resolve() in [find_file(word).resolve() for word in shlex.split(command)]
    assert build(command).rows


@pytest.mark.parametrize("file", CONFIGS)
def test_the_resolved_config_builds_the_same(build, file, tmp_path):
    resolved = build(command_of(file)).resolved
    (tmp_path / "resolved.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")
    assert build(f"its predict --config {tmp_path / 'resolved.yaml'}").resolved == resolved


@pytest.mark.parametrize("file", SWEEPS)
def test_every_value_of_a_sweep_parses(build, file):
    text = Path(file).read_text(encoding="utf-8")
    assert text.splitlines()[1] == f"# wandb sweep {file}"
    sweep = yaml.safe_load(text)
    assert sweep["command"][:3] == ["${env}", "${program}", "predict"]
    assert sweep["command"][-1] == "${args}"
    fixed = [str(word) for word in sweep["command"][3:-1]]
    assert "--model.fallback null" in " ".join(fixed)
    values = {key: p.get("values") or [p["min"], p["max"]] for key, p in sweep["parameters"].items()}
    for place in range(max(map(len, values.values()))):
        point = {key: (choices * 9)[place] for key, choices in values.items()}
        command = ["its", "predict", *fixed, *(f"--{key}={value}" for key, value in point.items())]
        cli = build(shlex.join(command))
        assert cli.rows
        assert cli.options.mixed  # points share a folder
        assert cli.model.fallback is None


def test_the_batch_script_runs_its_command(tmp_path):
    """With a fake srun that prints its arguments."""
    script = ROOT / "configs/slurm/predict.sh"
    assert f"sbatch {script.relative_to(ROOT)} --config" in script.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", script], check=True)
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_NTASKS_PER_NODE": "4",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "8",
    }
    command = ["bash", script, "--config", "configs/castle_bell.yaml"]
    said = subprocess.run(command, env=environment, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    expected = (
        "--kill-on-bad-exit=1 --cpus-per-task=8 its predict --config configs/castle_bell.yaml --model.fallback null "
        "--trainer.accelerator gpu --trainer.devices 4 --trainer.num_nodes 2"
    )
    assert " ".join(said.split()) == expected


def test_a_misspelt_key_an_unknown_class_and_a_missing_file_do_not_pass(build, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    for text, message in (
        ("model: {stepz: 3}", "stepz"),
        ("trainer: {acelerator: cpu}", "acelerator"),
        ("model: {vocoder: {class_path: HiFiGun}}", "Did you mean HiFiGAN"),
        ("model: {vocoder: {class_path: HiFiGAN, init_args: {wights: x}}}", "wights"),
        ("model: {combiner: {init_args: {t: {smell: 1.0}}}}", "smell"),
        ("data: {prompts: nowhere.jsonl}", "nowhere.jsonl"),
    ):
        overlay.write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=re.escape(message)):
            build(f"its predict --config configs/castle_bell.yaml --config {overlay}")


@pytest.mark.parametrize("name", PAIRS)
def test_pair_runs_by_itself(name):
    assert command_of(f"configs/{name}.yaml") == f"its predict --config configs/{name}.yaml"
    assert overlaid(f"configs/{name}.yaml")["output"] == f"runs/{name}"


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_differ_in_prompts_and_folder_alone(name):
    castle, other = overlaid("configs/castle_bell.yaml"), overlaid(f"configs/{name}.yaml")
    paper = overlaid("configs/models/paper.yaml")["model"]
    assert castle["model"] == other["model"] == paper | {"fallback": "mini"}
    assert castle["data"] | {"prompts": None} == other["data"] | {"prompts": None}


def test_table_5_has_the_prompts_of_the_seven_configs():
    rows = PromptGrid(prompts="configs/prompts/table5.jsonl").expand(["visual", "audio"])
    assert [[dict(row.prompts)] for row in rows] == [
        overlaid(f"configs/{name}.yaml")["data"]["prompts"] for name in PAIRS
    ]


def test_table_4_is_every_picture_with_every_sound():
    rows = PromptGrid(prompts="configs/prompts/table4.yaml").expand(["visual", "audio"])
    assert len(rows) == 100
    assert len({row.prompts["visual"] for row in rows}) == len({row.prompts["audio"] for row in rows}) == 10
    assert len({tuple(row.prompts.values()) for row in rows}) == 100


def test_table_1_is_a_thousand_samples(build):
    assert len(build(command_of("configs/paper/table1.yaml")).rows) == 1000


@pytest.mark.parametrize("file", REPRODUCTIONS)
def test_reproductions_have_no_fallback_and_draw_the_authors_noise(build, file):
    command = command_of(file)
    assert command == f"its predict --config {file}"
    assert overlaid(file)["model"] | {"fallback": None, "noise_dtype": "float16"} == overlaid(file)["model"]
    model = build(command).model
    assert (model.fallback, model.noise_dtype) == (None, "float16")


def test_only_demos_fall_back_to_the_pack():
    falling_back = {file for file in CONFIGS if (overlaid(file).get("model") or {}).get("fallback") is not None}
    assert falling_back == {f"configs/{name}.yaml" for name in DEMOS}
    assert {overlaid(file)["model"]["fallback"] for file in falling_back} == {"mini"}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_have_the_authors_prompts_seeds_and_settings(build, name):
    prompts, first, count = EXAMPLES[name]
    if isinstance(prompts, str):
        prompts = tuple(overlaid(f"configs/{prompts}.yaml")["data"]["prompts"][0].values())
    cli = build(command_of(f"configs/examples/{name}.yaml"))
    assert [row.seed for row in cli.rows] == list(range(first, first + count))
    assert {(row.prompts["visual"], row.prompts["audio"]) for row in cli.rows} == {prompts}
    assert {tuple(row.guidance_scale.values()) for row in cli.rows} == {(10.0, 10.0)}
    model = cli.resolved["model"]
    assert (model["steps"], model["trim"]) == (100, 0 if name == "default" else 32)
    assert model["combiner"]["init_args"]["t"] == {"visual": 0.9, "audio": 1.0}
    assert str(cli.output) == f"runs/examples/{name}"


def test_all_example_files_are_listed():
    assert {path.stem for path in (ROOT / "configs/examples").iterdir()} == set(EXAMPLES)


def test_mini_has_the_settings_that_the_pack_brings():
    ours, packs = (Path(p).read_text(encoding="utf-8") for p in ("configs/models/mini.yaml", "plugins/mini/model.yaml"))
    assert yaml.safe_load(ours) == yaml.safe_load(packs)


def test_a_file_in_the_place_of_a_value_may_hold_the_value_or_its_key(tmp_path):
    (tmp_path / "value.yaml").write_text("steps: 7", encoding="utf-8")
    (tmp_path / "overlay.yaml").write_text("model: {steps: 7}", encoding="utf-8")
    for name in ("value", "overlay"):
        (tmp_path / "main.yaml").write_text(f"model: {name}.yaml", encoding="utf-8")
        assert overlaid(tmp_path / "main.yaml") == {"model": {"steps": 7}}


def test_a_file_that_sets_other_keys_too_can_not_stand_in_the_place_of_one(tmp_path):
    (tmp_path / "both.yaml").write_text("{model: {steps: 7}, data: {batch_size: 2}}", encoding="utf-8")
    (tmp_path / "main.yaml").write_text("model: both.yaml", encoding="utf-8")
    with pytest.raises(UserError, match=r"main\.yaml: model .*both\.yaml.*data.*--config"):
        overlaid(tmp_path / "main.yaml")


def commands_of(document):
    """Lines of the ```sh blocks, those that end in a backslash joined to the next."""
    blocks = re.findall(r"^```sh\n(.*?)^```", Path(document).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


DOCUMENTS = [
    name
    for name in ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
    if "its predict" in "\n".join(commands_of(ROOT / name))
    and name not in ("docs/security.md", "docs/writing-a-plugin.md")
]
"""Documents with commands to parse; the two left out use the module of the plugin guide."""


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_of_the_documents_parse(build, document):
    commands = commands_of(document)
    targets = re.findall(r"^(\w+):", Path("Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    others = tuple(f"its {name}" for name in (*COMMANDS, "--help") if name != "predict")
    known = {f"make {target}" for target in targets} | {". .venv/bin/activate"}
    assert commands
    for command in commands:
        bare = shlex.join(shlex.split(command, comments=True))
        if bare in known or bare.startswith((*ELSEWHERE, *others)):
            continue
        assert bare.startswith("its predict "), f"{document}: there is no command {command!r}"
        if "--print_config" in bare or ".help" in bare:
            with pytest.raises(SystemExit, match="0"):
                build(command)
        else:
            assert build(command).rows, command


def test_mini_color_has_the_settings_that_the_pack_brings():
    ours, packs = Path("configs/models/mini_color.yaml"), registry.packs()["mini"].colorizer
    assert yaml.safe_load(ours.read_text(encoding="utf-8")) == yaml.safe_load(packs.read_text(encoding="utf-8"))


COLORED = ("configs/castle_bell.yaml", "configs/colorize.yaml")


@pytest.mark.parametrize(
    ("files", "arguments", "stands_in"),
    [
        (COLORED, [], True),
        (COLORED, ["--model.colorizer=null"], False),
        (COLORED, ["--model.colorizer.init_args.steps=9"], True),  # of the colorizer that it takes the place of
        (COLORED[:1], [], False),
        (COLORED[:1], ["--model.colorizer=FactorizedDiffusion"], True),
    ],
)
def test_the_packs_colorizer_is_the_fallback_only_for_configs_with_a_colorizer(build, files, arguments, stands_in):
    config = replace_weights(compose(list(map(Path, files)), arguments), registry.packs()["mini"], keep_vocoder=True)
    cli = building.PredictCLI(config)
    colorizer = dict(cli.model.components()).get("colorizer")
    assert (colorizer is not None) == stands_in
    if colorizer is not None:
        assert colorizer.expert.weights == "pack:mini"
        assert colorizer.steps == 30


def test_a_pack_without_a_colorizer_can_not_stand_in_for_one():
    pack = replace(registry.packs()["mini"], colorizer=None)
    with pytest.raises(UserError, match="model.colorizer"):
        replace_weights(compose(list(map(Path, COLORED))), pack, keep_vocoder=True)
