"""Alternation: which expert runs in which step."""

import pytest

from its_plugins.combiners.alternation import Alternation


def turns(combiner, steps):
    tables = [combiner.weights(index / steps) for index in range(steps)]
    assert all(sorted(table.values()) == [0.0] * (len(table) - 1) + [1.0] for table in tables)
    return "".join(name for table in tables for name, weight in table.items() if weight)


@pytest.mark.parametrize("steps", [6, 7, 10, 30, 50, 100])
def test_the_expert_changes_at_each_step(steps):
    assert turns(Alternation(["a", "b"], turns=steps), steps) == ("ab" * steps)[:steps]


def test_longer_turns_and_repeated_experts():
    assert turns(Alternation(["a", "b"], turns=3), 9) == "aaabbbaaa"
    assert turns(Alternation(["a", "a", "b"], turns=6), 6) == "aabaab"
    assert turns(Alternation(["a", "b", "c"], turns=4), 10) == "aaabbcccaa"  # turns begin at steps 0, 2.5, 5 and 7.5


def test_wrong_arguments():
    with pytest.raises(ValueError, match="order is empty"):
        Alternation([], turns=1)
    with pytest.raises(ValueError, match=r"turns \(=1\) must be at least 2"):
        Alternation(["a", "b"], turns=1)
    combiner = Alternation(["a", "b"], turns=20)
    combiner.check(canvas=(64, 64), steps=20)
    with pytest.raises(ValueError, match=r"turns \(=20\) must be at most 19, the number of steps"):
        combiner.check(canvas=(64, 64), steps=19)
