"""YAML as plain data."""

import pytest
import yaml

from its.instantiate import yaml_values
from its.instantiate.yaml_values import read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-2E3", -2000.0),
        ("1.5", 1.5),
        ("3", 3),
        ("'1e-4'", "1e-4"),
        ("2024-01-01", "2024-01-01"),
        ("e5", "e5"),
        ("[1e1, x]", [10.0, "x"]),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
    ],
)
def test_values(text, value):
    assert read_yaml(text) == value
    assert type(read_yaml(text)) is type(value)


@pytest.mark.parametrize(
    "text", ["!!set {a}", "!!binary aGk=", "!!timestamp 2024-01-01", "!!python/name:os.system", "["]
)
def test_what_json_can_not_hold_is_refused(text):
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)


def test_anchors_that_grow_without_bound_are_refused(monkeypatch):
    monkeypatch.setattr(yaml_values, "MOST_NODES", 1000)
    levels = [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 12)]
    for text in ("&a [*a]", "\n".join(["a0: &a0 [1]", *levels])):
        with pytest.raises(RecursionError):
            read_yaml(text)
