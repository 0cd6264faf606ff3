"""Tests of the allowlist of config classes and arguments."""

import re
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, RichProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.profilers import PyTorchProfiler, SimpleProfiler
from lightning.pytorch.strategies import DDPStrategy, Strategy

from its import registry
from its.config import allowlist
from its.config.allowlist import FROM_COMMAND_LINE, FROM_FILES, TRAINER, ConfigRules
from its.config.compose import COMMAND_LINE
from its.config.options import PredictOptions
from its.errors import UserError
from its.instantiate import Instantiator, parameters
from its.interfaces import NoiseExpert, Scheduler

registry.load_plugins()

OWN = ConfigRules()
"""Rules for keys that are all set on the command line."""
FILE = ConfigRules(source_of=lambda key: "strange.yaml")


def find(name, base, rules=FILE):
    return rules.find(name, base, "key")


def test_registered_plugins_have_a_short_name_and_a_long_one():
    assert find("DDIM", Scheduler) is find("its_plugins.schedulers.ddim.DDIM", Scheduler)


def test_a_class_inside_a_plugin_is_found_by_the_annotation_it_is_for():
    from its_plugins.experts.deepfloyd_if_upscaler import DeepFloydIFUpscaler

    assert find("DeepFloydIFUpscaler", DeepFloydIFUpscaler) is DeepFloydIFUpscaler
    with pytest.raises(UserError, match="DeepFloydIFUpscaler"):
        find("DeepFloydIFUpscaler", NoiseExpert)


@pytest.mark.parametrize(
    "name",
    ["WandbLogger", "lightning.pytorch.loggers.WandbLogger", "lightning.pytorch.loggers.wandb.WandbLogger"],
)
def test_classes_of_lightning_on_the_list_are_found(name):
    assert find(name, Logger) is WandbLogger


def test_some_classes_may_be_named_on_the_command_line_alone():
    assert find("CSVLogger", Logger, OWN) is CSVLogger
    with pytest.raises(UserError, match=r"CSVLogger.*command line"):
        find("lightning.pytorch.loggers.CSVLogger", Logger)


def test_all_classes_and_arguments_of_the_list_exist():
    for path, arguments in {**FROM_FILES, **dict.fromkeys(FROM_COMMAND_LINE, ""), "lightning.Trainer": TRAINER}.items():
        module, _, name = path.rpartition(".")
        known, is_open = parameters(getattr(import_module(module), name))
        assert is_open or set(arguments.split()) <= known.keys(), path


def test_no_argument_of_the_list_takes_a_function_or_an_object_of_another_package():
    def kinds(annotation):
        inner = getattr(annotation, "__args__", None)
        return {annotation} if inner is None else {kind for one in inner for kind in kinds(one)}

    for path, arguments in FROM_FILES.items():
        module, _, name = path.rpartition(".")
        known, _ = parameters(getattr(import_module(module), name))
        for argument in set(arguments.split()) & known.keys():
            for kind in kinds(known[argument].annotation):
                text = getattr(kind, "__module__", "builtins")
                allowed = ("builtins", "typing", "datetime", "signal")
                assert text in allowed or (name, argument) == ("SingleDeviceStrategy", "device"), (path, argument, kind)


def classes_of(package):
    """Dotted names of all classes defined in the sources of a package, found without an import."""
    folder = Path(find_spec(package).submodule_search_locations[0])
    for path in folder.rglob("*.py"):
        module = ".".join([package, *path.relative_to(folder).with_suffix("").parts]).removesuffix(".__init__")
        for name in re.findall(r"^[ \t]*class (\w+)", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE):
            yield f"{module}.{name}"


@pytest.mark.parametrize("package", ["lightning", "torch", "torchmetrics"])
def test_no_class_outside_of_the_list_can_be_named_from_a_file(package, monkeypatch):
    monkeypatch.setattr(allowlist, "nearest", lambda *_: "")  # slow
    listed = {getattr(import_module(p.rpartition(".")[0]), p.rpartition(".")[2]) for p in FROM_FILES}
    names = [*classes_of(package)]
    assert len(names) > 100
    before = set(sys.modules)
    accepted = set()
    for name in names:
        try:
            accepted.add(find(name, object))  # any other base accepts a subset
        except UserError:
            continue
    assert accepted <= listed
    assert set(sys.modules) <= before | {m for m in sys.modules if m.startswith("lightning")}
    assert (package == "lightning") == bool(accepted)


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("lightning.pytorch.callbacks.LambdaCallback", Callback),
        ("lightning.pytorch.callbacks.lambda_function.LambdaCallback", Callback),
        ("torch.distributed.launcher.api.elastic_launch", Callback),
        ("lightning.pytorch.strategies.DeepSpeedStrategy", Strategy),
        ("torch.nn.Identity", Scheduler),
        ("torch.hub.load", Scheduler),
        ("os.system", Scheduler),
        ("os.WandbLogger", Logger),
        ("lightning.WandbLogger", Logger),
        ("its.interfaces.os", Scheduler),
        ("trap.Scheduler", Scheduler),
    ],
)
@pytest.mark.parametrize("rules", [OWN, FILE])
def test_nothing_else_is_found_and_trust_is_proposed_for_own_modules_alone(name, base, rules, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=name) as refused:
        find(name, base, rules)
    assert ("--trust trap" in str(refused.value)) == name.startswith("trap")
    assert "--trust" not in str(refused.value) or name.startswith("trap")
    assert "trap" not in sys.modules


def test_files_that_its_made_propose_no_trust():
    with pytest.raises(UserError, match=r"mine\.X") as refused:
        find("mine.X", Scheduler, ConfigRules(source_of=lambda key: "received.PNG"))
    assert "--trust" not in str(refused.value)


def test_a_class_of_another_kind_is_refused():
    with pytest.raises(UserError, match="DDIM is a Scheduler"):
        find("DDIM", NoiseExpert)
    with pytest.raises(UserError, match="WandbLogger"):
        find("WandbLogger", Callback)


def test_classes_of_trusted_modules_are_found(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "inner.py").write_text(
        "from lightning.pytorch.callbacks import Callback\nclass Own(Callback): pass\nnot_a_class = print\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find("mine.inner.Own", Callback, ConfigRules(trusted=["mine"])).__name__ == "Own"
    for trusted in ([], ["mi"], ["mine.other"]):
        with pytest.raises(UserError, match=r"mine\.inner\.Own"):
            find("mine.inner.Own", Callback, ConfigRules(trusted=trusted))
    for name in ("mine.inner.not_a_class", "mine.inner.Nothing", "mine.absent.Own"):
        with pytest.raises(UserError, match=name):
            find(name, Callback, ConfigRules(trusted=["mine"]))


def faults(rules, cls, **arguments):
    instantiator = Instantiator(rules)
    instantiator.arguments(cls, arguments, "k")
    return [str(fault) for fault in instantiator.faults]


@pytest.mark.parametrize(
    ("cls", "argument", "value"),
    [
        (WandbLogger, "settings", {"base_url": "https://attacker.example"}),
        (WandbLogger, "entity", "somebody"),
        (WandbLogger, "save_dir", "/somewhere"),
        (WandbLogger, "dir", ".."),
        (WandbLogger, "id", "an-earlier-run"),
        (CSVLogger, "save_dir", "ftp://attacker.example/x"),
        (PyTorchProfiler, "dirpath", "memory://x"),
        (PyTorchProfiler, "on_trace_ready", "x"),
        (SimpleProfiler, "filename", "../x"),
        (RichProgressBar, "console_kwargs", {"log_path": True}),
        (DDPStrategy, "ddp_comm_hook", "x"),
        (DDPStrategy, "cluster_environment", "LightningEnvironment"),
        (Trainer, "default_root_dir", "s3://attacker/x"),
        (Trainer, "model_registry", "x"),
    ],
)
def test_a_file_gives_only_the_arguments_of_the_list(cls, argument, value):
    (fault,) = faults(FILE, cls, **{argument: value})[:1]
    assert fault.startswith(f"k.{argument}: a config file may not set {argument} of {cls.__name__}")
    assert "command line" in fault
    assert not [f for f in faults(OWN, cls, **{argument: value}) if "config file" in f]


def test_a_file_may_give_defaults_which_resolved_configs_hold():
    assert faults(FILE, WandbLogger, project="p", save_dir=".", tags=["a"], anonymous=None) == []


def test_a_trusted_module_gets_all_its_arguments(tmp_path, monkeypatch):
    (tmp_path / "own_rules.py").write_text(
        "from lightning.pytorch.loggers import CSVLogger as Base\nclass CSVLogger(Base): pass\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    rules = ConfigRules(trusted=["own_rules"], source_of=lambda key: "mine.yaml")
    assert faults(rules, rules.find("own_rules.CSVLogger", Logger, "k"), save_dir="x") == []


@pytest.mark.parametrize(
    "folder",
    [
        "../x",
        "a/../../x",
        "/x",
        "~/x",
        "$HOME/x",
        "~other",
        "s3://x/y",
        "ftp://x/y",
        r"..\x",
        r"C:\x",
        r"a\..\..\x",
        "//host/x",
        "a\0b",
        "a\nb",
    ],
)
def test_the_run_directory_of_a_file_is_within_the_current_folder(folder):
    (fault,) = faults(FILE, PredictOptions, output=folder)
    assert fault.startswith("k.output: got ")
    assert "--output" in fault
    assert faults(OWN, PredictOptions, output=folder) == []


def test_the_run_directory_of_a_file_may_have_folders():
    assert faults(FILE, PredictOptions, output="runs/castle bell/2") == []


def test_a_logger_of_the_command_line_is_called_that():
    (fault,) = faults(FILE, Trainer, logger={"class_path": "CSVLogger", "init_args": {"save_dir": "x"}})
    assert "CSVLogger" in fault
    assert "command line" in fault


@pytest.mark.parametrize("written", ["absolute", "with the home folder"])
def test_a_config_may_name_the_folder_that_it_lies_in(tmp_path, monkeypatch, written):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = tmp_path / "run"
    rules = ConfigRules(source_of=lambda key: str(run / "its_config.yaml"))
    output = str(run) if written == "absolute" else "~/run"
    assert faults(rules, PredictOptions, output=output) == []
    assert faults(rules, PredictOptions, output=f"{output}/../other") != []


def test_defaults_have_no_source_and_options_are_of_the_command_line():
    for source in (None, COMMAND_LINE):
        assert faults(ConfigRules(source_of=lambda key, source=source: source), Trainer, default_root_dir="x") == []
