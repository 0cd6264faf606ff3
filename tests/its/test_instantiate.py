"""Plugins from what names them in YAML."""

import pytest

from its import registry
from its.errors import UserError
from its.instantiate import instantiate, is_spec, spec_of

registry.load_plugins()


def test_by_name_by_class_path_and_with_plugins_within():
    assert instantiate("DDIM", "Scheduler", key="k").arguments["spacing"] == "leading"
    for path in ("DDIM", "its_plugins.schedulers.ddim.DDIM"):
        made = instantiate({"class_path": path, "init_args": {"spacing": "trailing"}}, "Scheduler", key="k")
        assert made.arguments["spacing"] == "trailing"
    warm = {"class_path": "WarmStartAverage", "init_args": {"t": {"a": 1.0, "b": 0.9}}}
    regions = {"class_path": "Regions", "init_args": {"masks": {"a": 1.0, "b": 0.5}, "combiner": warm}}
    assert type(instantiate(regions, "Combiner", key="k").combiner).__name__ == "WarmStartAverage"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "k: got 3; expected NAME, or {class_path"),
        ({"class_path": "DDIM", "arguments": {}}, "k: got .*expected NAME"),
        ({"class_path": "DDIM", "init_args": [1]}, "k: got .*expected NAME"),
        ("DDIN", "k is 'DDIN'; registered for Scheduler: .*Did you mean DDIM"),
        ("CLIPScorer", "k is 'CLIPScorer'; registered for Scheduler: .* CLIPScorer is a Scorer"),
        ("os.system", "k is 'os.system'; registered for Scheduler"),
        ({"class_path": "DDIM", "init_args": {"spacin": 1}}, "k: DDIM has no argument spacin; .*Did you mean spacing"),
        ({"class_path": "DDIM", "init_args": {"spacing": "x"}}, r"k: DDIM: spacing \(=x\) must be one of"),
        ({"class_path": "DDIM", "init_args": {"spacing": {"class_path": "Nothing"}}}, "k.spacing: there is no plugin"),
    ],
)
def test_wrong_values_are_one_message_with_their_key(value, message):
    with pytest.raises(UserError, match=message):
        instantiate(value, "Scheduler", key="k")


def test_what_names_a_plugin():
    assert is_spec({"class_path": "x"})
    assert not is_spec("x")
    assert spec_of("DDIM", key="k") == ("DDIM", {})
