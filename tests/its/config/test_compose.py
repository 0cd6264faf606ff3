import pytest

from its import registry
from its.config.compose import Composed, class_choices, split_arguments, without_key
from its.errors import UserError

registry.load_plugins()

BASE = """
model:
  experts:
    visual: {class_path: StableDiffusion, init_args: {weights: a/b}}
    audio: {class_path: Auffusion, init_args: {weights: c/d, revision: x}}
  combiner: {class_path: WarmStartAverage, init_args: {t: {visual: 0.9, audio: 1.0}}}
  steps: 100
data:
  guidance_scale: {visual: 10.0, audio: 10.0}
"""


def compose(tmp_path, *texts):
    composed = Composed()
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.yaml"
        path.write_text(text)
        composed.overlay(path)
    return composed


def test_an_overlay_touches_only_its_own_keys(tmp_path):
    config = compose(tmp_path, BASE, "model: {experts: {visual: {init_args: {weights: e/f}}}, steps: 5}").pruned()
    assert config["model"]["experts"]["visual"] == {
        "class_path": "StableDiffusion",
        "init_args": {"weights": "e/f"},
    }
    assert config["model"]["experts"]["audio"]["init_args"] == {"weights": "c/d", "revision": "x"}
    assert config["model"]["steps"] == 5


def test_a_new_class_starts_afresh(tmp_path):
    config = compose(tmp_path, BASE, "model: {experts: {audio: {class_path: StableDiffusion}}}").pruned()
    assert config["model"]["experts"]["audio"] == {"class_path": "StableDiffusion"}


def test_a_new_class_on_the_command_line_starts_afresh(tmp_path):
    composed = compose(tmp_path, BASE)
    composed.choose("model.experts.audio", "StableDiffusion")
    assert composed.pruned()["model"]["experts"]["audio"] == {"class_path": "StableDiffusion"}


def test_the_same_class_on_the_command_line_keeps_its_arguments(tmp_path):
    composed = compose(tmp_path, BASE)
    composed.choose("model.experts.audio", "Auffusion")
    assert composed.pruned()["model"]["experts"]["audio"]["init_args"]["revision"] == "x"


def test_null_removes_an_expert_and_what_belongs_to_it(tmp_path):
    overlay = """
    model: {experts: {audio: null}, combiner: {init_args: {t: {audio: null}}}}
    data: {guidance_scale: {audio: null}}
    """
    config = compose(tmp_path, BASE, overlay).pruned()
    assert list(config["model"]["experts"]) == ["visual"]
    assert config["model"]["combiner"]["init_args"]["t"] == {"visual": 0.9}
    assert config["data"]["guidance_scale"] == {"visual": 10.0}


def test_null_removes_an_entry_of_a_combiner_within_another(tmp_path):
    base = """
    model:
      combiner:
        class_path: Regions
        init_args:
          masks: {a: 1.0, b: 1.0}
          combiner: {class_path: WarmStartAverage, init_args: {t: {a: 1.0, b: 0.9}}}
    """
    gone = "{masks: {b: null}, combiner: {init_args: {t: {b: null}}}}"
    arguments = compose(tmp_path, base, f"model: {{combiner: {{init_args: {gone}}}}}").pruned()["model"]["combiner"]
    assert arguments["init_args"] == {
        "masks": {"a": 1.0},
        "combiner": {"class_path": "WarmStartAverage", "init_args": {"t": {"a": 1.0}}},
    }


def test_null_stays_where_it_is_a_value(tmp_path):
    assert compose(tmp_path, "model: {fallback: null}").pruned() == {"model": {"fallback": None}}


def test_a_file_in_the_place_of_a_value_is_relative_to_the_file_that_names_it(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "audio.yaml").write_text("{class_path: Auffusion, init_args: {weights: g/h}}")
    (tmp_path / "parts" / "experts.yaml").write_text("audio: audio.yaml")
    config = compose(tmp_path, "model: {experts: parts/experts.yaml}").pruned()
    assert config["model"]["experts"]["audio"]["init_args"]["weights"] == "g/h"


def test_a_model_may_be_a_list_of_files_and_mappings_each_over_the_one_before(tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "base.yaml").write_text(BASE.partition("data:")[0])
    overlay = "{steps: 7, fallback: null, experts: {audio: StableDiffusion, visual: {init_args: {revision: r}}}}"
    config = compose(tmp_path, f"model: [models/base.yaml, {overlay}]").pruned()["model"]
    assert config["steps"] == 7
    assert config["fallback"] is None
    assert config["experts"]["audio"] == {"class_path": "StableDiffusion"}
    assert config["experts"]["visual"]["init_args"] == {"weights": "a/b", "revision": "r"}
    assert config["combiner"]["class_path"] == "WarmStartAverage"


@pytest.mark.parametrize("item", ["7", "GriffinLim", "[7]", "null"])
def test_an_item_of_such_a_list_that_is_neither_is_refused(tmp_path, item):
    with pytest.raises(UserError, match=r"0\.yaml: model is a list with the item .*; expected YAML files and mappings"):
        compose(tmp_path, f"model: [{{steps: 7}}, {item}]")


def test_a_file_of_prompts_is_relative_to_the_config(tmp_path):
    (tmp_path / "prompts.csv").write_text("visual,audio\n")
    assert compose(tmp_path, "data: {prompts: prompts.csv}").pruned()["data"]["prompts"] == str(
        tmp_path / "prompts.csv"
    )
    assert compose(tmp_path, "data: {prompts: elsewhere.csv}").pruned()["data"]["prompts"] == "elsewhere.csv"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model: {combiner: {class_path: os.system}}",
            r"0.yaml: model.combiner.class_path names os.system.*--trust os",
        ),
        ("model: {scheduler: subprocess.run}", r"model.scheduler.class_path names subprocess.run"),
        (
            "trainer: {callbacks: [{class_path: evil.Callback}]}",
            r"trainer.callbacks.0.class_path names evil.Callback",
        ),
        ("trainer: {logger: evil.Logger}", r"trainer.logger names evil.Logger"),
        ("data: {x: [{deep: {class_path: evil.X}}]}", r"names evil.X"),
        (
            "model: {experts: {a: {class_path: View, init_args: {expert: {class_path: os.system}}}}}",
            r"model.experts.a.init_args.expert.class_path names os.system.*--trust os",
        ),
        (
            "model: {experts: {a: {class_path: View, init_args: {expert: subprocess.run}}}}",
            r"model.experts.a.init_args.expert.class_path names subprocess.run",
        ),
        (
            "model: {experts: {a: {class_path: View, init_args: {expert: {class_path: View, "
            "init_args: {expert: Aufusion}}}}}}",
            r"0.yaml: .*expert.init_args.expert is 'Aufusion'; registered for NoiseExpert.*Did you mean Auffusion\?",
        ),
        (
            "model: {combiner: {class_path: Regions, init_args: {combiner: DDIM}}}",
            r"model.combiner.init_args.combiner is 'DDIM'; registered for Combiner.*DDIM is a Scheduler",
        ),
        (
            "model: {vocoder: {class_path: HiFiGUN}}",
            r"0.yaml: model.vocoder is 'HiFiGUN'.*Did you mean HiFiGAN\?",
        ),
        (
            "model: {experts: {audio: {class_path: DDIM}}}",
            r"model.experts.audio is 'DDIM'.*DDIM is a Scheduler",
        ),
        ("- 1", r"expected keys such as model"),
        ("model: [", r"0.yaml: not YAML"),
    ],
)
def test_what_a_file_may_not_say(tmp_path, text, message):
    with pytest.raises(UserError, match=f"(?s){message}"):
        compose(tmp_path, text)


def test_a_file_in_the_place_of_a_value_is_checked_too(tmp_path):
    (tmp_path / "part.yaml").write_text("class_path: os.system")
    with pytest.raises(UserError, match="names os.system"):
        compose(tmp_path, "model: {scheduler: part.yaml}")


@pytest.mark.parametrize(
    "name", ["DDIM", "its_plugins.schedulers.ddim.DDIM", "lightning.pytorch.loggers.CSVLogger", "torch.nn.Identity"]
)
def test_registered_classes_and_lightnings_may_be_named(tmp_path, name):
    compose(tmp_path, f"model: {{scheduler: {{class_path: {name}}}}}")


def test_classes_of_a_trusted_module_may_be_named(tmp_path):
    (tmp_path / "x.yaml").write_text("model: {scheduler: {class_path: mine.inner.Scheduler}}")
    Composed(trusted=["mine"]).overlay(tmp_path / "x.yaml")
    with pytest.raises(UserError, match="names mine.inner.Scheduler"):
        Composed(trusted=["mi", "mine.other"]).overlay(tmp_path / "x.yaml")


def test_a_file_on_the_command_line_is_read_with_the_same_care(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ok.yaml").write_text("{class_path: DDIM, init_args: {spacing: trailing}}")
    (tmp_path / "evil.yaml").write_text("class_path: os.system")
    composed = Composed()
    assert composed.place("model.scheduler", "ok.yaml")
    assert composed.pruned()["model"]["scheduler"]["init_args"] == {"spacing": "trailing"}
    with pytest.raises(UserError, match=r"evil.yaml: model.scheduler.class_path names os.system"):
        composed.place("model.scheduler", "evil.yaml")
    with pytest.raises(UserError, match=r"there is no config absent.yaml"):
        composed.place("model", "absent.yaml")


def test_null_on_the_command_line_removes_an_entry(tmp_path):
    composed = compose(tmp_path, BASE)
    assert composed.place("model.combiner.t.audio", "null")
    assert composed.place("data.guidance_scale.audio", "null")
    assert composed.pruned()["model"]["combiner"]["init_args"]["t"] == {"visual": 0.9}
    assert composed.pruned()["data"]["guidance_scale"] == {"visual": 10.0}
    assert not composed.place("model.fallback", "null")
    assert not composed.place("model.steps", "3")


def test_a_missing_config_names_the_nearest(tmp_path):
    (tmp_path / "castle.yaml").touch()
    with pytest.raises(UserError, match=r"there is no config .*castel.yaml. Did you mean castle.yaml\?"):
        Composed().overlay(tmp_path / "castel.yaml")


def test_messages_can_say_where_a_key_was_set(tmp_path):
    composed = compose(tmp_path, BASE, "model: {steps: x}")
    assert composed.source_of('Parser key "model.steps": Expected') == str(tmp_path / "1.yaml")
    assert composed.source_of('Parser key "model.combiner": Expected') == str(tmp_path / "0.yaml")
    assert composed.source_of("nothing of it") is None


def test_the_command_line_is_split_in_order():
    files, modules, rest = split_arguments(
        ["--config", "a.yaml", "--model.steps", "3", "--trust=mine", "-c", "b.yaml", "--config=c.yaml", "--help"]
    )
    assert ([str(f) for f in files], modules) == (["a.yaml", "b.yaml", "c.yaml"], ["mine"])
    assert rest == ["--model.steps=3", "--help"]


@pytest.mark.parametrize("arguments", [["--config"], ["--config", "--help"], ["--trust="]])
def test_an_option_without_its_value(arguments):
    with pytest.raises(UserError, match=r"--(config|trust) needs a value"):
        split_arguments(arguments)


def test_choices_of_classes_are_told_from_other_arguments():
    others = ["--model.vocoder.init_args.iterations=3", "--model.combiner={class_path: X}", "--print_config"]
    chosen = ["--model.vocoder=GriffinLim", "--model.scheduler.class_path=DDIM", "--model.experts.audio=null"]
    choices, rest = class_choices([*chosen, *others])
    assert choices == [("model.vocoder", "GriffinLim"), ("model.scheduler", "DDIM"), ("model.experts.audio", None)]
    assert rest == others


def test_the_arguments_of_a_key_can_be_left_out():
    arguments = ["--model.experts.a.init_args.weights=x", "--model.experts.a={}", "--model.experts.ab=y", "--help"]
    assert without_key(arguments, "model.experts.a") == ["--model.experts.ab=y", "--help"]
