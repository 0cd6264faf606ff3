"""Which classes configs may name."""

import sys

import pytest
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import CSVLogger, Logger
from lightning.pytorch.strategies import Strategy

from its import registry
from its.config.allowlist import LIGHTNING, class_finder
from its.errors import UserError
from its.interfaces import NoiseExpert, Scheduler

registry.load_plugins()


def test_registered_plugins_have_a_short_name_and_a_long_one():
    find = class_finder()
    assert find("DDIM", Scheduler) is find("its_plugins.schedulers.ddim.DDIM", Scheduler)


def test_a_class_inside_a_plugin_is_found_by_the_annotation_it_is_for():
    from its_plugins.experts.deepfloyd_if_upscaler import DeepFloydIFUpscaler

    assert class_finder()("DeepFloydIFUpscaler", DeepFloydIFUpscaler) is DeepFloydIFUpscaler
    with pytest.raises(UserError, match="DeepFloydIFUpscaler"):
        class_finder()("DeepFloydIFUpscaler", NoiseExpert)


@pytest.mark.parametrize(
    "name",
    ["CSVLogger", "lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.loggers.csv_logs.CSVLogger"],
)
def test_classes_of_lightning_on_the_list_are_found(name):
    assert class_finder()(name, Logger) is CSVLogger


def test_all_names_on_the_list_exist():
    from importlib import import_module

    assert [
        name for module, names in LIGHTNING.items() for name in names if not hasattr(import_module(module), name)
    ] == []


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("lightning.pytorch.callbacks.LambdaCallback", Callback),
        ("lightning.pytorch.callbacks.lambda_function.LambdaCallback", Callback),
        ("lightning.pytorch.strategies.DeepSpeedStrategy", Strategy),
        ("torch.nn.Identity", Scheduler),
        ("torch.hub.load", Scheduler),
        ("os.system", Scheduler),
        ("os.CSVLogger", Logger),
        ("trap.Scheduler", Scheduler),
        ("its.interfaces.os", Scheduler),
    ],
)
def test_nothing_else_is_found_and_the_remedy_is_named(name, base, tmp_path, monkeypatch):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=f"(?s){name}.*--trust {name.rpartition('.')[0]}"):
        class_finder()(name, base)
    assert "trap" not in sys.modules


def test_a_class_of_another_kind_is_refused():
    with pytest.raises(UserError, match="DDIM is a Scheduler"):
        class_finder()("DDIM", NoiseExpert)
    with pytest.raises(UserError, match="CSVLogger"):
        class_finder()("CSVLogger", Callback)


def test_classes_of_trusted_modules_are_found(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "inner.py").write_text(
        "from lightning.pytorch.callbacks import Callback\nclass Own(Callback): pass\nnot_a_class = print\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    assert class_finder(["mine"])("mine.inner.Own", Callback).__name__ == "Own"
    for trusted in ([], ["mi"], ["mine.other"]):
        with pytest.raises(UserError, match=r"mine\.inner\.Own"):
            class_finder(trusted)("mine.inner.Own", Callback)
    for name in ("mine.inner.not_a_class", "mine.inner.Nothing", "mine.absent.Own"):
        with pytest.raises(UserError, match=name):
            class_finder(["mine"])(name, Callback)
