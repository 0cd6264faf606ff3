"""Tests of constructing objects from YAML values."""

import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from signal import Signals
from typing import TYPE_CHECKING, Any, Literal

import pytest
import yaml

from its import registry
from its.errors import UserError
from its.instantiate import Fault, Instantiator, Text, construct, instantiate, parameters, plain, raise_faults, spec_of
from its.interfaces import Combiner, Plugin, Scheduler

if TYPE_CHECKING:
    from its.interfaces import NoiseExpert

registry.load_plugins()


@dataclass(frozen=True, kw_only=True)
class Range:
    """Plain data."""

    start: int
    count: int = 1
    names: list[str] = field(default_factory=lambda: ["a"])


def built(kind, value):
    """Build an object and its spec from a value without faults."""
    instantiator = Instantiator()
    result = instantiator.build(kind, value, "k")
    assert instantiator.faults == []
    return result


def faults(kind, value):
    instantiator = Instantiator()
    instantiator.build(kind, value, "k")
    return [str(fault) for fault in instantiator.faults]


def test_a_name_and_a_mapping_of_it_build_the_same():
    for value in ("DDIM", {"class_path": "DDIM"}, {"class_path": "its_plugins.schedulers.ddim.DDIM", "init_args": {}}):
        scheduler = instantiate(value, Scheduler, key="k")
        assert scheduler.describe() == instantiate("DDIM", Scheduler, key="k").describe()


@pytest.mark.parametrize("kind", [Callable, typing.Callable, Callable[[int], int], type, type[Scheduler]])
@pytest.mark.parametrize("value", ["os.system", "DDIM.plan", {"class_path": "subprocess.Popen", "init_args": {}}])
def test_functions_and_classes_are_no_values(kind, value):
    assert len(faults(kind, value)) == 1
    assert len(faults(kind | None, value)) == 1


def test_plugins_inside_plugins_are_built_first():
    warm = {"class_path": "WarmStartAverage", "init_args": {"t": {"a": 1.0, "b": 0.5}}}
    regions = {"class_path": "Regions", "init_args": {"masks": {"a": 1.0, "b": 0.5}, "combiner": warm}}
    assert type(instantiate(regions, Combiner, key="k").combiner).__name__ == "WarmStartAverage"


def test_the_spec_has_all_defaults_and_builds_the_same_again():
    warm = {"class_path": "WarmStartAverage", "init_args": {"t": {"a": 1, "b": 0.5}}}
    combiner, spec = built(
        Combiner, {"class_path": "Regions", "init_args": {"masks": {"a": 1.0, "b": 0}, "combiner": warm}}
    )
    inner = {"class_path": "WarmStartAverage", "init_args": {"t": {"a": 1.0, "b": 0.5}, "weights": None}}
    assert spec["init_args"]["combiner"] == inner
    again, same = built(Combiner, yaml.safe_load(yaml.safe_dump(spec)))
    assert again.describe() == combiner.describe()
    assert same == spec


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (int, 3, 3),
        (float, 3, 3.0),
        (float, 1e-4, 1e-4),
        (bool, True, True),
        (str, "3", "3"),
        (Path, "a/b", Path("a/b")),
        (Literal["a", 3], 3, 3),
        (list[int], [1, 2], [1, 2]),
        (Sequence[str], ["x"], ["x"]),
        (tuple[int, int], [1, 2], (1, 2)),
        (dict[str, float], {1: 2}, {"1": 2.0}),
        (int | None, None, None),
        (int | list[str], ["x"], ["x"]),
        (int | bool, True, True),
        (dict[str, Any], {"a": [Text("3")]}, {"a": [3]}),
        (Range, {"start": 3}, Range(start=3)),
        (timedelta, 90, timedelta(seconds=90)),
        (timedelta, "1:30:00", timedelta(hours=1, minutes=30)),
        (Signals, "SIGUSR1", Signals.SIGUSR1),
        (Signals, int(Signals.SIGUSR1), Signals.SIGUSR1),
        (list[int] | Range | None, {"start": 3, "count": 2}, Range(start=3, count=2)),
    ],
)
def test_plain_values(kind, value, expected):
    result, _ = built(kind, value)
    assert result == expected
    assert type(result) is type(expected)


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (int, "3", 3),
        (str, "3", "3"),
        (str, "2024-01-01", "2024-01-01"),
        (str, "a: b", "a: b"),
        (str, "[draft", "[draft"),
        (str | None, "null", None),
        (list[int] | str | int, "2", 2),
        (str | None, "2", "2"),
        (bool, "true", True),
        (tuple[int, int], "[64, 128]", (64, 128)),
        (float, 1e-4, 1e-4),
        (Any, "[1, x]", [1, "x"]),
        (Range | None, "{start: 1}", Range(start=1)),
    ],
)
def test_command_line_text_is_parsed_by_the_parameter_type(kind, text, expected):
    result, spec = built(kind, Text(text))
    assert result == expected
    assert type(result) is type(expected)
    yaml.safe_dump(spec)  # fails for values that YAML can't write


@pytest.mark.parametrize(
    ("kind", "value", "fault"),
    [
        (int, "many", "k: got many; expected int"),
        (int, True, "k: got True; expected int"),
        (int, 3.5, "k: got 3.5; expected int"),
        (str, 3, "k: got 3; expected text"),
        (float, "fast", "k: got fast; expected number"),
        (bool, 1, "k: got 1; expected true or false"),
        (Literal["a", "b"], "c", "k: got c; expected one of 'a', 'b'"),
        (Literal[1], True, "k: got True; expected one of 1"),
        (list[int], 3, "k: got 3; expected a list of int"),
        (list[int], [1, "x"], "k.1: got x; expected int"),
        (tuple[int, int], [1], "k: got [1]; expected [int, int]"),
        (dict[str, float], {"a": "x"}, "k.a: got x; expected number"),
        (int | None, "x", "k: got x; expected int or null"),
        (Range, {"start": 3, "cuont": 2}, "k.cuont: Range has no argument cuont"),
        (Range, {}, "k.start: is missing"),
        (timedelta, "soon", "k: got soon; expected seconds"),
        (timedelta, float("inf"), "k: got inf; expected seconds"),
        (timedelta, 1e300, "k: got 1e+300; expected seconds"),
        (timedelta, "9999999999999:00:00", "k: got 9999999999999:00:00; expected seconds"),
        (Signals, "SIGNOTHING", "k: got SIGNOTHING; expected one of "),
        (dict[str, Any], 3, "k: got 3; expected a mapping of any value"),
        (
            Scheduler,
            {"class_path": "DDIM", "api_key": "hidden"},
            "k: got {'class_path': 'DDIM', 'api_key': '(left out)'}",
        ),
        (Scheduler, 3, "k: got 3; expected NAME"),
        (
            Scheduler | Sequence[Scheduler],
            {"class_path": "DDIM", "x": 1},
            "k: got {'class_path': 'DDIM', 'x': 1}; expected NAME",
        ),
        (Scheduler, {"class_path": "DDIM", "arguments": {}}, "k: got "),
        (Scheduler, {"class_path": "DDIM", "init_args": [1]}, "k: got "),
        (Scheduler, "DDIN", "k: unknown class 'DDIN'"),
        (Scheduler | None, "CLIPScorer", "k: unknown class 'CLIPScorer'"),
        (Scheduler, "os.system", "k: unknown class 'os.system'"),
        (Scheduler, {"class_path": "DDIM", "init_args": {"spacin": 1}}, "k.init_args.spacin: DDIM has no argument"),
        (Scheduler, {"class_path": "DDIM", "init_args": {"spacing": "x"}}, "k.init_args.spacing: got x"),
        (Scheduler, {"class_path": "DDIM", "init_args": {"steps_offset": -1}}, "k: DDIM: "),
    ],
)
def test_a_wrong_value_is_one_fault_with_its_key(kind, value, fault):
    (found,) = faults(kind, value)
    assert found.startswith(fault)


def test_all_faults_are_found():
    value = {
        "class_path": "Regions",
        "init_args": {
            "masks": {"a": "round"},
            "nothing": 1,
            "combiner": {"class_path": "WarmStartAverage", "init_args": {"t": {"a": "soon"}, "weight": {}}},
        },
    }
    places = [fault.partition(": ")[0] for fault in faults(Combiner, value)]
    assert "k.init_args.combiner.init_args.t.a" in places
    assert "k.init_args.combiner.init_args.weight" in places
    assert "k.init_args.nothing" in places


def test_faults_are_reported_together_with_their_sources():
    found = [Fault("a.b", "is wrong"), Fault("c", "is missing"), Fault("a", "a.d is 3; expected 4")]
    with pytest.raises(UserError) as error:
        raise_faults(found, {"a.b": "one.yaml", "a.d": "two.yaml"}.get)
    first, *rest = str(error.value).splitlines()
    assert first.startswith("3 ")
    assert [line.strip() for line in rest] == [
        "one.yaml: a.b: is wrong",
        "c: is missing",
        "two.yaml: a.d is 3; expected 4",
    ]


class Base(Plugin):
    """Declares two arguments."""

    def __init__(self, *, size: int, name: str = "x") -> None:
        self.size, self.name = size, name


class Passing(Base):
    """Passes options to its base class."""

    def __init__(self, *, extra: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.extra = extra


class Open(Plugin):
    """Accepts any option."""

    def __init__(self, **options: Any) -> None:
        self.options = options


class Typed(Plugin):
    """Has an annotation imported under TYPE_CHECKING, and one that can't be evaluated."""

    def __init__(self, expert: "NoiseExpert", other: "Unknown" = None) -> None:  # noqa: F821
        self.expert, self.other = expert, other


def test_options_that_are_passed_on_are_checked_as_the_base_class_s():
    assert list(parameters(Passing)[0]) == ["extra", "size", "name"]
    assert construct(Passing, {"size": 3, "extra": 2}, key="k").size == 3
    with pytest.raises(UserError, match=r"k\.siez: .*Did you mean size"):
        construct(Passing, {"size": 3, "siez": 4}, key="k")
    with pytest.raises(UserError, match=r"k: Passing: .*size"):
        construct(Passing, {}, key="k")


def test_options_of_an_open_constructor_are_taken_as_they_are():
    assert construct(Open, {"a": 1, "b": [2]}, key="k").options == {"a": 1, "b": [2]}


def test_interfaces_imported_for_type_checkers_are_known():
    typed = construct(Typed, {"expert": {"class_path": "Auffusion"}, "other": 3}, key="k")
    assert type(typed.expert).__name__ == "Auffusion"
    assert typed.other == 3


def test_secrets_are_not_shown():
    assert faults(dict[str, int], {"api_key": "hidden"}) == ["k.api_key: got (left out); expected int"]


class Faulty(Plugin):
    """Raises an error selected by its argument."""

    def __init__(self, name: str) -> None:
        raise {"refusal": ImportError("no module x"), "defect": KeyError("x")}[name]


def test_invalid_arguments_are_faults_and_defects_of_plugins_are_raised():
    with pytest.raises(UserError, match="k: Faulty: no module x"):
        construct(Faulty, {"name": "refusal"}, key="k")
    with pytest.raises(KeyError):
        construct(Faulty, {"name": "defect"}, key="k")


def test_objects_are_passed_on_and_have_a_spec():
    scheduler = instantiate("DDIM", Scheduler, key="k")
    result, spec = built(Scheduler, scheduler)
    assert result is scheduler
    assert spec == plain(scheduler)
    assert spec["class_path"] == "DDIM"
    assert spec["init_args"]["steps_offset"] == 1


def test_values_that_name_a_class():
    assert spec_of("DDIM") == ("DDIM", {})
    with pytest.raises(UserError):
        spec_of(["DDIM"])
