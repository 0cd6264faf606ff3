"""Selection of the method."""

import pytest
import yaml

import its
from its import registry
from its.cli import main
from its.engine.build import build
from its.errors import UserError
from its.interfaces import Combiner, NoiseExpert, Scheduler, Vocoder
from its.methods.classes import DEFAULT, FIRST_PARTY, method_class, settings_of
from its.methods.denoising import MultimodalDenoising
from its.registry import register


@register
class Upside(MultimodalDenoising):
    """A plugin's method with different arguments."""

    def __init__(
        self,
        *,
        experts: dict[str, NoiseExpert],
        combiner: Combiner,
        scheduler: Scheduler,
        vocoder: Vocoder,
        canvas: tuple[int, int],
        turns: int = 1,
        fallback: str | None = None,
    ):
        parts = {"experts": experts, "combiner": combiner, "scheduler": scheduler, "vocoder": vocoder}
        super().__init__(**parts, canvas=canvas, fallback=fallback)
        self.turns = turns


@pytest.fixture
def short_of_weights(monkeypatch):
    from its.engine.assembly import Assembly
    from its.engine.build import PredictCLI

    registry.load_plugins()
    monkeypatch.setattr(Assembly, "find_weights", lambda assembly: None)
    monkeypatch.setattr(PredictCLI, "prepare_run", lambda cli: None)


def test_the_default_is_the_papers_main_method():
    assert method_class(DEFAULT) is MultimodalDenoising


def test_the_error_for_an_unknown_method_lists_the_methods():
    with pytest.raises(UserError, match=r"method is 'Multimodal'; expected one of MultimodalDenoising"):
        method_class("Multimodal")


def test_a_registered_method_is_found_by_its_name():
    assert method_class("Upside") is Upside
    assert settings_of("Upside") == ["experts", "combiner", "scheduler", "vocoder", "canvas", "turns", "fallback"]
    assert registry.interface_of(Upside) == "Method"


def test_an_unfinished_method_is_refused():
    class Empty(its.Method):
        """Implements nothing."""

    with pytest.raises(TypeError, match="does not define length, make, settings"):
        register(Empty)


def test_the_list_of_plugins_has_the_methods_with_their_summaries(capsys):
    assert main(["plugins"]) == 0
    listed = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if line.startswith("  "))
    for name in (*FIRST_PARTY, "Upside"):
        cls = method_class(name)
        assert listed[name].split(maxsplit=1) == [cls.__module__, registry.summary(cls)]


def test_a_new_method_drops_unknown_keys(config, tmp_path, short_of_weights):
    (tmp_path / "upside.yaml").write_text(yaml.safe_dump({"method": "Upside", "model": {"turns": 3}}))
    cli = build([config, tmp_path / "upside.yaml"], [])  # the config sets steps, which Upside does not take
    assert type(cli.model) is Upside
    assert cli.model.turns == 3
    assert cli.model.canvas == (64, 128)
    assert type(build([config], ["--method=Upside"]).model) is Upside


def test_what_the_file_of_the_method_sets_is_checked(config, tmp_path, short_of_weights):
    (tmp_path / "upside.yaml").write_text(yaml.safe_dump({"method": "Upside", "model": {"turnz": 3}}))
    with pytest.raises(UserError, match=r"model\.turnz.*Did you mean turns"):
        build([config, tmp_path / "upside.yaml"], [])
    (tmp_path / "upside.yaml").write_text(yaml.safe_dump({"method": "Upsied"}))
    with pytest.raises(UserError, match=r"upside\.yaml: method is 'Upsied'.*Did you mean Upside\?"):
        build([config, tmp_path / "upside.yaml"], [])
