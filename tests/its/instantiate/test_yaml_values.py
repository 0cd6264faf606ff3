"""Tests of reading YAML and JSON as plain data."""

import time

import pytest
import yaml

from its.instantiate.yaml_values import read_json, read_value, read_yaml


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
        ("1e5x", "1e5x"),
        ("{<<: {a: 1}, b: 2}", {"a": 1, "b": 2}),
        ("[1e1, x]", [10.0, "x"]),
        ("{a: &x [1], b: *x}", {"a": [1], "b": [1]}),
    ],
)
def test_values(text, value):
    assert read_yaml(text) == value
    assert type(read_yaml(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    ["!!set {a}", "!!binary aGk=", "!!timestamp 2024-01-01", "!!python/name:os.system", "[", "!!int x", "? [a]\n: b"],
)
def test_values_without_json_form_are_refused(text):
    with pytest.raises(yaml.YAMLError):
        read_yaml(text)


def doubling(first, level):
    return "\n".join([f"a0: &a0 {first}", *(f"a{n}: &a{n} {level.replace('*', f'*a{n - 1}')}" for n in range(1, 40))])


NESTED = {
    "contains itself": "&a [*]".replace("*", "*a"),
    "merges itself": "a: &a {<<: *a}",
    "anchors double": doubling("[1]", "[*, *]"),
    "anchors of mappings double": doubling("{x: 1}", "{x: *, y: *}"),
    "merge keys repeat": "a: &a {" + ", ".join(f"k{n}: 1" for n in range(1500)) + "}\nb: {<<: [" + "*a," * 1500 + "]}",
    "a long text is repeated": "a: &a " + "x" * 10_000 + "\nb: &b [" + "*a," * 200 + "]\nc: [" + "*b," * 50 + "]",
    "lists in lists": "[" * 5000,
    "closed lists in lists": "[" * 100 + "]" * 100,
    "mappings in mappings": "".join(f"{' ' * n}a:\n" for n in range(100)),
    "a long integer": "1" * 5000,
    "a long binary integer": "0b" + "1" * 5000,
    "a long integer of base 60": "1" + ":1" * 100_000,
    "nearly a float": "1" * 200_000 + "x",
    "a long key": "{" + "k" * 1000 + ": 1}",
}


@pytest.mark.parametrize("text", NESTED.values(), ids=NESTED)
def test_documents_that_take_long_are_refused_at_once(text):
    began = time.monotonic()
    if text.endswith("x"):
        assert read_yaml(text) == text
    else:
        with pytest.raises(yaml.YAMLError):
            read_yaml(text)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("text", ["[" * 100_000, "[" * 100 + "]" * 100, "1" * 5000, "{", "nope"])
def test_json_has_the_same_limits(text):
    with pytest.raises(ValueError):  # noqa: PT011 - several subclasses
        read_json(text)


def test_a_value_of_the_command_line_that_is_no_yaml_is_text():
    assert read_value("[" * 5000) == "[" * 5000


@pytest.mark.parametrize("text", ["model: 1\nmodel: 2", "{a: {b: 1, 'b': 2}}", "- {x: 1, y: 2, x: 3}"])
def test_keys_that_are_given_twice_are_refused(text):
    with pytest.raises(yaml.YAMLError, match="given twice"):
        read_yaml(text)


def test_so_are_those_of_json():
    with pytest.raises(ValueError, match="key b is given twice"):
        read_json('[{"a": {"b": 1, "b": 2}}]')


def test_merged_keys_may_be_overridden():
    assert read_yaml("base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}\nboth: {<<: [*base, {a: 9}], c: 4}") == {
        "base": {"a": 1, "b": 2},
        "own": {"a": 1, "b": 3},
        "both": {"a": 1, "b": 2, "c": 4},
    }
