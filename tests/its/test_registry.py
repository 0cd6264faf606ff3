import pytest

from its import registry
from its.interfaces import Combiner, Vocoder
from its.registry import register


def test_plugins_come_through_the_entry_points():
    found = registry.classes()
    assert {"StableDiffusion", "Auffusion", "WarmStartAverage", "DDIM", "HiFiGAN", "GriffinLim"} <= found.keys()
    assert found["DDIM"].__module__ == "its_plugins.schedulers.ddim"
    assert registry.failures() == {}
    assert "mini" in registry.packs()


def test_classes_of_one_interface():
    assert set(registry.classes("Vocoder")) >= {"HiFiGAN", "GriffinLim"}
    assert "DDIM" not in registry.classes("Vocoder")


def test_classes_that_are_not_plugins():
    with pytest.raises(TypeError, match="is not a plugin: subclass one of NoiseExpert, Combiner"):
        register(int)


class Unfinished(Vocoder):
    """Does nothing yet."""


class _Private(Combiner):
    """Hidden."""

    def weights(self, progress):
        return {}


class Undocumented(Combiner):
    def weights(self, progress):
        return {}


class DDIM(Combiner):
    """Has the name of another."""

    def weights(self, progress):
        return {}


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Unfinished, "Unfinished can't be registered: it does not define format, forward"),
        (_Private, "expected a public class"),
        (Undocumented, "Undocumented .*docstring"),
        (DDIM, "its_plugins.schedulers.ddim already has a plugin of this name"),
    ],
)
def test_a_bad_plugin_fails_where_it_is_written(cls, message):
    with pytest.raises(TypeError, match=message):
        register(cls)


def test_a_plugin_that_fails_to_import_takes_no_other_with_it(monkeypatch):
    class Broken:
        name, value = "broken", "nowhere.at.all"

        def load(self):
            raise ZeroDivisionError("oh")

    monkeypatch.setattr(registry, "entry_points", lambda group: [Broken()])
    monkeypatch.setattr(registry, "_failures", {})
    registry.load_plugins.__wrapped__()
    assert registry.failures() == {"broken (nowhere.at.all)": "ZeroDivisionError: oh"}


class Remembering(Combiner):
    """Keeps nothing itself."""

    def __init__(self, a, *, b=2):
        pass

    def weights(self, progress):
        return {}


class Derived(Remembering):
    """Has other arguments."""

    def __init__(self, *, c=(1,)):
        super().__init__(5, b=6)


def test_every_plugin_remembers_its_arguments():
    assert Remembering(1).describe() == {"class": "Remembering", "a": 1, "b": 2}
    assert Derived().describe() == {"class": "Derived", "c": (1,)}
    assert Derived(c=3).describe(identity_only=True) == {"class": "Derived", "c": 3}


def test_a_path_to_a_registered_class_is_its_name_also_from_before_a_move():
    for path in ("its_plugins.schedulers.ddim.DDIM", "its_plugins.ddim.DDIM", "DDIM"):
        assert registry.short_name(path) == "DDIM"
    # The last path is in a loaded module: a different class, not one that moved.
    for path in ("other.ddim.DDIM", "its_plugins.ddim.Other", "os.system", "its_plugins.vocoders.griffin_lim.DDIM"):
        assert registry.short_name(path) == path


class Where(Derived):
    """Declares an argument that its result does not depend on."""

    non_identity_args = ("c",)


class Where2(Where):
    """Has one more, and another component within."""

    non_identity_args = ("a",)

    def __init__(self, *, a, c, d):
        super().__init__(c=c)


def test_arguments_that_do_not_define_the_result_are_declared_by_the_class():
    assert Where(c=3).describe() == {"class": "Where", "c": 3}
    assert Where(c=3).describe(identity_only=True) == {"class": "Where"}
    inner = Where(c=4)
    assert Where2(a=1, c=2, d=inner).describe(identity_only=True) == {"class": "Where2", "d": {"class": "Where"}}
