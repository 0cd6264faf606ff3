"""Tests of composing files and the command line into one mapping with the source of each key."""

import os

import pytest

from its import registry
from its.config.compose import COMMAND_LINE, Config, command_line_layers, compose, read_layer, split_arguments
from its.errors import UserError

registry.load_plugins()

BASE = """
model:
  experts:
    visual: {class_path: StableDiffusion, init_args: {weights: a/b}}
    audio: {class_path: Auffusion, init_args: {weights: c/d, revision: x}}
  combiner: {class_path: WarmStartAverage, init_args: {t: {visual: 0.9, audio: 1.0}}}
  vocoder: {class_path: HiFiGAN, init_args: {subfolder: v}}
  steps: 100
data:
  guidance_scale: {visual: 10.0, audio: 10.0}
"""


@pytest.fixture
def composed(tmp_path):
    """Function that writes texts to files and composes them with command-line arguments."""

    def make(*texts, arguments=()):
        paths = [tmp_path / f"{number}.yaml" for number in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        return compose(paths, list(arguments))

    return make


def test_an_overlay_touches_only_its_own_keys(composed):
    values = composed(BASE, "model: {experts: {visual: {init_args: {weights: e/f}}}, steps: 5}").values
    assert values["model"]["experts"]["visual"] == {"class_path": "StableDiffusion", "init_args": {"weights": "e/f"}}
    assert values["model"]["experts"]["audio"]["init_args"] == {"weights": "c/d", "revision": "x"}
    assert values["model"]["steps"] == 5


@pytest.mark.parametrize("name", ["StableDiffusion", "{class_path: StableDiffusion}"])
def test_a_new_class_discards_the_arguments_of_the_one_before(composed, name):
    for config in (
        composed(BASE, f"model: {{experts: {{audio: {name}}}}}"),
        composed(BASE, arguments=[f"--model.experts.audio={name}"]),
    ):
        assert config.values["model"]["experts"]["audio"] == {"class_path": "StableDiffusion"}


@pytest.mark.parametrize("option", ["--model.experts.audio", "--model.experts.audio.class_path"])
def test_the_same_class_on_the_command_line_keeps_its_arguments(composed, option):
    values = composed(BASE, arguments=[f"{option}=Auffusion"]).values
    assert values["model"]["experts"]["audio"]["init_args"]["revision"] == "x"


@pytest.mark.parametrize("reverse", [False, True])
def test_a_class_and_its_arguments_come_in_any_order_on_the_command_line(composed, reverse):
    arguments = ["--model.vocoder=GriffinLim", "--model.vocoder.iterations=3", "--trainer.plugins=MixedPrecision"]
    arguments += ["--trainer.plugins.device=cpu"]
    values = composed(BASE, arguments=reversed(arguments) if reverse else arguments).values
    assert values["model"]["vocoder"] == {"class_path": "GriffinLim", "init_args": {"iterations": "3"}}
    assert values["trainer"]["plugins"] == {"class_path": "MixedPrecision", "init_args": {"device": "cpu"}}


def test_arguments_of_plugins_can_be_set_without_init_args(composed):
    short = ["--model.colorizer.expert.weights=w", "--model.experts.visual.weights=v", "--model.combiner.t.audio=0.5"]
    values = composed(BASE, arguments=short).values["model"]
    assert values["colorizer"] == {"init_args": {"expert": {"init_args": {"weights": "w"}}}}
    assert values["experts"]["visual"]["init_args"]["weights"] == "v"
    assert values["combiner"]["init_args"]["t"] == {"visual": 0.9, "audio": "0.5"}


def test_items_can_be_appended_to_a_list(composed):
    file = "{save: [image], trainer: {callbacks: [Timer]}}"
    values = composed(file, arguments=["--trainer.callbacks+=DeviceStatsMonitor", "--save+=latents"]).values
    assert values["trainer"]["callbacks"] == ["Timer", "DeviceStatsMonitor"]
    assert values["save"] == ["image", "latents"]
    more = ["--save=[image]", "--save+=[latents, video]", "--save+=cycle"]
    assert composed(file, arguments=more).values["save"] == ["image", "latents", "video", "cycle"]
    assert composed(file, arguments=["--save+=[x"]).values["save"] == ["image", "[x"]
    one = composed("trainer: {callbacks: {class_path: Timer}}", arguments=["--trainer.callbacks+=RichProgressBar"])
    assert one.values["trainer"]["callbacks"] == [{"class_path": "Timer"}, "RichProgressBar"]
    assert composed("", arguments=["--trainer.callbacks+=Timer"]).values["trainer"]["callbacks"] == ["Timer"]


@pytest.mark.parametrize("path", ["WandbLogger", "lightning.pytorch.loggers.WandbLogger"])
def test_the_name_of_a_logger_keeps_its_arguments(composed, path):
    file = f"trainer: {{logger: {{class_path: {path}, init_args: {{offline: true}}}}, strategy: {{class_path: X}}}}"
    trainer = composed(file, arguments=["--trainer.logger=WandbLogger", "--trainer.strategy=ddp"]).values["trainer"]
    assert trainer == {"logger": {"class_path": "WandbLogger", "init_args": {"offline": True}}, "strategy": "ddp"}
    other = composed(file, arguments=["--trainer.logger=CSVLogger"]).values["trainer"]["logger"]
    assert other == "CSVLogger"


def test_a_section_on_the_command_line_is_merged(composed):
    arguments = ["--data={batch_size: 5}", "--trainer={num_nodes: 1}"]
    arguments += ["--model.combiner={init_args: {weights: {visual: 2}}}"]
    values = composed(BASE, "trainer: {devices: 2}", arguments=arguments).values
    assert values["data"] == {"guidance_scale": {"visual": 10.0, "audio": 10.0}, "batch_size": 5}
    assert values["trainer"] == {"devices": 2, "num_nodes": 1}
    assert values["model"]["combiner"]["init_args"] == {"t": {"visual": 0.9, "audio": 1.0}, "weights": {"visual": 2}}


def test_keys_of_a_sweep_have_dots(composed):
    arguments = ["--data.sweep.combiner.t.visual=[0.5, 1]", "--data.sweep.steps=[2]"]
    assert composed("data: {sweep: {guidance_scale.visual: [1]}}", arguments=arguments).values["data"]["sweep"] == {
        "guidance_scale.visual": [1],
        "combiner.t.visual": "[0.5, 1]",
        "steps": "[2]",
    }


def test_a_mapping_on_the_command_line_replaces_the_whole(composed):
    one = ["--data.guidance_scale={audio: 3}"]
    assert composed(BASE, arguments=one).values["data"]["guidance_scale"] == {"audio": 3}
    two = ["--data.guidance_scale={}", "--data.guidance_scale.visual=3"]
    assert composed(BASE, arguments=two).values["data"]["guidance_scale"] == {"visual": "3"}
    same = ["--model.experts.audio={class_path: Auffusion, init_args: {weights: w}}"]
    arguments = composed(BASE, arguments=same).values["model"]["experts"]["audio"]["init_args"]
    assert arguments == {"weights": "w", "revision": "x"}


def test_null_removes_an_expert_and_its_values(composed):
    overlay = """
    model: {experts: {audio: null}, combiner: {init_args: {t: {audio: null}}}}
    data: {guidance_scale: {audio: null}}
    """
    arguments = ["--model.experts.audio=null", "--model.combiner.t.audio=null", "--data.guidance_scale.audio=null"]
    for config in (composed(BASE, overlay), composed(BASE, arguments=arguments)):
        assert list(config.values["model"]["experts"]) == ["visual"]
        assert config.values["model"]["combiner"]["init_args"]["t"] == {"visual": 0.9}
        assert config.values["data"]["guidance_scale"] == {"visual": 10.0}


def test_null_removes_an_entry_of_a_combiner_inside_another(composed):
    base = """
    model:
      combiner:
        class_path: Regions
        init_args:
          masks: {a: 1.0, b: 1.0}
          combiner: {class_path: WarmStartAverage, init_args: {t: {a: 1.0, b: 0.9}}}
    """
    gone = "{masks: {b: null}, combiner: {init_args: {t: {b: null}}}}"
    combiner = composed(base, f"model: {{combiner: {{init_args: {gone}}}}}").values["model"]["combiner"]
    assert combiner["init_args"] == {
        "masks": {"a": 1.0},
        "combiner": {"class_path": "WarmStartAverage", "init_args": {"t": {"a": 1.0}}},
    }


def test_null_stays_where_it_is_a_value(composed):
    assert composed("model: {fallback: null}").values == {"model": {"fallback": None}}
    assert composed(BASE, arguments=["--model.fallback=null"]).values["model"]["fallback"] is None


def test_a_new_method_discards_unknown_keys(composed):
    base = BASE + "\nmethod: MultimodalDenoising"
    for config in (composed(base, "method: ScoreDistillation"), composed(base, arguments=["--method=Imprint"])):
        assert config.method in ("ScoreDistillation", "Imprint")
        assert "combiner" not in config.values["model"]
        assert "experts" in config.values["model"]
    with pytest.raises(UserError, match=r"0\.yaml: .*Imprimt.*Did you mean Imprint"):
        composed("method: Imprimt")


def test_a_file_in_the_place_of_a_value_is_relative_to_the_file_that_names_it(composed, tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "audio.yaml").write_text("{class_path: Auffusion, init_args: {weights: g/h}}")
    (tmp_path / "parts" / "experts.yaml").write_text("audio: audio.yaml")
    values = composed("model: {experts: parts/experts.yaml}").values
    assert values["model"]["experts"]["audio"]["init_args"]["weights"] == "g/h"


def test_a_file_on_the_command_line_is_relative_to_the_current_folder(composed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "part.yaml").write_text("{class_path: DDIM, init_args: {spacing: trailing}}")
    values = composed(BASE, arguments=["--model.scheduler=part.yaml"]).values
    assert values["model"]["scheduler"] == {"class_path": "DDIM", "init_args": {"spacing": "trailing"}}
    with pytest.raises(UserError, match=r"absent\.yaml"):
        composed(BASE, arguments=["--model=absent.yaml"])


def test_a_model_may_be_a_list_of_files_and_mappings_each_over_the_one_before(composed, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "base.yaml").write_text(BASE.partition("data:")[0])
    overlay = "{steps: 7, fallback: null, experts: {audio: StableDiffusion, visual: {init_args: {revision: r}}}}"
    model = composed(f"model: [models/base.yaml, {overlay}]").values["model"]
    assert model["steps"] == 7
    assert model["fallback"] is None
    assert model["experts"]["audio"] == {"class_path": "StableDiffusion"}
    assert model["experts"]["visual"]["init_args"] == {"weights": "a/b", "revision": "r"}
    assert model["combiner"]["class_path"] == "WarmStartAverage"


@pytest.mark.parametrize("item", ["7", "GriffinLim", "[7]", "null"])
def test_an_item_of_such_a_list_that_is_neither_is_refused(composed, item):
    with pytest.raises(UserError, match=r"0\.yaml: model "):
        composed(f"model: [{{steps: 7}}, {item}]")


def test_a_file_of_prompts_is_relative_to_the_config(composed, tmp_path):
    (tmp_path / "prompts.csv").write_text("visual,audio\n")
    assert composed("data: {prompts: prompts.csv}").values["data"]["prompts"] == str(tmp_path / "prompts.csv")
    assert composed("data: {prompts: elsewhere.csv}").values["data"]["prompts"] == "elsewhere.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1", r"0\.yaml: .*model:"),
        ("model: [", r"0\.yaml: not YAML"),
        ("model: 3", r"0\.yaml: model "),
        ("config: other.yaml", r"0\.yaml: .*config.*--config"),
        ("model: 0.yaml", r"0\.yaml: .*itself"),
        ("scorers: &a [*a]", r"0\.yaml: .*itself"),
        ("data: &a {x: *a}", r"0\.yaml: .*itself"),
        ("x: !!set {a}", r"0\.yaml: not YAML"),
        ("x: !!python/object/apply:os.system [ls]", r"0\.yaml: not YAML"),
    ],
)
def test_a_file_that_is_no_config_is_refused(composed, text, message):
    with pytest.raises(UserError, match=message):
        composed(text)


def test_a_missing_config_names_the_nearest(tmp_path):
    (tmp_path / "castle.yaml").touch()
    with pytest.raises(UserError, match=r"castel\.yaml.*castle\.yaml"):
        read_layer(tmp_path / "castel.yaml")


def test_every_key_has_its_source(composed, tmp_path):
    config = composed(BASE, "model: {steps: x}", arguments=["--model.scheduler.spacing=trailing"])
    assert config.source_of("model.steps") == str(tmp_path / "1.yaml")
    assert config.source_of("model.combiner.init_args.t.visual") == str(tmp_path / "0.yaml")
    assert config.source_of("model.combiner.init_args.unknown") == str(tmp_path / "0.yaml")
    assert config.source_of("model.scheduler.init_args.spacing") == COMMAND_LINE
    assert config.source_of("output") is None


def test_pipes_devices_and_huge_files_are_no_configs(tmp_path):
    pipe, device, huge = (tmp_path / f"{name}.yaml" for name in ("pipe", "device", "huge"))
    os.mkfifo(pipe)
    device.symlink_to("/dev/zero")
    huge.touch()
    os.truncate(huge, 2**30)  # sparse: takes no disk space
    for file, reason in ((pipe, "not a regular file"), (device, "not a regular file"), (huge, "more than")):
        (tmp_path / "outer.yaml").write_text(f"model: {file.name}")
        for files, options in (([file], []), ([tmp_path / "outer.yaml"], []), ([], [f"--model={file}"])):
            with pytest.raises(UserError, match=f"{file.name}.*{reason}"):
                compose(files, options)


def test_files_that_name_each_other_are_read_so_often_and_no_more(tmp_path):
    (tmp_path / "self.yaml").write_text("model: self.yaml")
    (tmp_path / "list.yaml").write_text("model: [" + "empty.yaml, " * 1000 + "]")
    (tmp_path / "empty.yaml").touch()
    for name in ("self", "list"):
        with pytest.raises(UserError, match="100 files"):
            compose([tmp_path / f"{name}.yaml"])


def test_files_that_are_named_often_count_each_time(tmp_path):
    (tmp_path / "big.yaml").write_text("# " + "x" * 900_000)
    (tmp_path / "list.yaml").write_text("model: [" + "big.yaml, " * 9 + "]")
    with pytest.raises(UserError, match=r"bytes in total.*data\.prompts"):
        compose([tmp_path / "list.yaml"])


def test_items_of_lists_have_their_own_sources(tmp_path):
    (tmp_path / "c.yaml").write_text("trainer: {callbacks: [{class_path: A, init_args: {a: 1}}]}")
    own = "[{class_path: B, init_args: {b: 1}}, C]"
    config = compose([tmp_path / "c.yaml"], [f"--trainer.callbacks+={own}"])
    assert [config.source_of(f"trainer.callbacks.{n}.class_path") for n in range(3)] == [
        str(tmp_path / "c.yaml"), COMMAND_LINE, COMMAND_LINE,
    ]  # fmt: skip
    assert config.source_of("trainer.callbacks.1.init_args.b") == COMMAND_LINE
    replaced = compose([tmp_path / "c.yaml"], [f"--trainer.callbacks={own}"])
    assert replaced.source_of("trainer.callbacks.0.class_path") == COMMAND_LINE


@pytest.mark.parametrize("single", ["{class_path: A, init_args: {a: 1}}", "A"])
def test_a_single_value_that_becomes_the_first_of_a_list_keeps_its_source(single, tmp_path):
    (tmp_path / "c.yaml").write_text(f"trainer: {{callbacks: {single}}}")
    config = compose([tmp_path / "c.yaml"], ["--trainer.callbacks+=B"])
    assert len(config.values["trainer"]["callbacks"]) == 2
    for key in ("0", "0.class_path", "0.init_args.a"):
        assert config.source_of(f"trainer.callbacks.{key}") == str(tmp_path / "c.yaml")
    assert config.source_of("trainer.callbacks.1") == COMMAND_LINE


@pytest.mark.parametrize("option", ["--trainer.logger", "--trainer.logger+", "--trainer"])
def test_a_file_that_the_command_line_names_for_a_key_is_a_source_too(option, tmp_path):
    file = tmp_path / "logger.yaml"
    inner = "{class_path: WandbLogger, init_args: {save_dir: x}}"
    file.write_text(f"{{logger: {inner}}}" if option == "--trainer" else inner)
    base = ["trainer: {logger: [true]}"] if option.endswith("+") else []
    for number, text in enumerate(base):
        (tmp_path / f"{number}.yaml").write_text(text)
    config = compose([tmp_path / f"{n}.yaml" for n in range(len(base))], [f"{option}={file}", "--trainer.devices=1"])
    key = "trainer.logger.1" if base else "trainer.logger"
    assert config.source_of(f"{key}.init_args.save_dir") == str(file)
    assert config.source_of("trainer.devices") == COMMAND_LINE


def test_values_of_the_command_line_keep_their_text_until_their_type_is_known():
    values = command_line_layers(["--output=2024", "--data.guidance_scale={visual: 3}", "--save=[image]"])[0].values
    assert values == {"output": "2024", "data": {"guidance_scale": {"visual": 3}}, "save": "[image]"}


@pytest.mark.parametrize("argument", ["--model.steps", "model.steps=3", "prompts.csv"])
def test_unknown_options_are_refused(argument):
    with pytest.raises(UserError, match=argument):
        command_line_layers([argument])


def test_the_command_line_is_split_in_order():
    files, modules, rest = split_arguments(
        ["--config", "a.yaml", "--model.steps", "3", "--trust=mine", "-c", "b.yaml", "--config=c.yaml", "--help"]
    )
    assert ([str(f) for f in files], modules) == (["a.yaml", "b.yaml", "c.yaml"], ["mine"])
    assert rest == ["--model.steps=3", "--help"]


@pytest.mark.parametrize("arguments", [["--config"], ["--config", "--help"], ["--trust="]])
def test_an_option_without_its_value(arguments):
    with pytest.raises(UserError, match=r"--(config|trust)"):
        split_arguments(arguments)


def test_a_config_without_layers_is_empty():
    assert Config([]).values == {}


@pytest.mark.parametrize("place", ["~", "$PLACE", "${PLACE}"])
def test_names_of_files_are_expanded_wherever_they_stand(place, monkeypatch, tmp_path):
    for variable in ("HOME", "PLACE"):
        monkeypatch.setenv(variable, str(tmp_path))
    (tmp_path / "scale.yaml").write_text("{visual: 3}")
    (tmp_path / "rows.csv").write_text("visual,audio\na,b\n")
    config = tmp_path / "folder" / "config.yaml"
    config.parent.mkdir()
    config.write_text(f"data:\n  guidance_scale: {place}/scale.yaml\n  prompts: {place}/rows.csv\n")
    data = read_layer(config).values["data"]
    assert data == {"guidance_scale": {"visual": 3}, "prompts": str(tmp_path / "rows.csv")}
    (layer, _) = command_line_layers([f"--data.guidance_scale={place}/scale.yaml"])
    assert layer.values == {"data": {"guidance_scale": {"visual": 3}}}
    assert split_arguments([f"--config={place}/config.yaml"])[0] == [tmp_path / "config.yaml"]
