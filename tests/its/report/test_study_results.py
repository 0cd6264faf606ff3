import json
import math

import pytest

from its.cli import main
from its.errors import UserError
from its.report.study import FORMAT
from its.report.study_results import Z, mean_interval, read_answers, table, wilson

PAIRS = [("a castle", "a bell"), ("dogs", "barking")]


def answers(*, who="p1", wins=(True, True), caught=False, runs=("ours", "imprint"), study="s"):
    """Answers of a participant who chose the first run in all questions of a pair if `wins` is true for the pair."""

    def trial(pair, left, right, side, catch):
        sides = {"left": {"run": left, "sample": "x"}, "right": {"run": right, "sample": "y"}}
        chosen = dict.fromkeys(("visual", "audio", "alignment"), side)
        return {"catch": catch, "visual": pair[0], "audio": pair[1], **sides, "answers": chosen, "seconds": 9.0}

    real = [
        trial(pair, "imprint", "ours", "right" if won else "left", False) for pair, won in zip(PAIRS, wins, strict=True)
    ]
    trap = trial(PAIRS[0], "imprint", None, "right" if caught else "left", True)
    return {"format": FORMAT, "study": study, "participant": who, "runs": list(runs), "trials": [*real, trap]}


@pytest.fixture
def save(tmp_path):
    def save(content, name=None):
        path = tmp_path / (name or f"{content['participant']}.json")
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return save


@pytest.mark.parametrize(("wins", "of"), [(0, 5), (1, 1), (3, 7), (50, 100), (98, 98), (77, 100)])
def test_the_ends_of_wilson_s_interval_solve_its_equation(wins, of):
    share = wins / of
    for end in wilson(wins, of):
        assert (share - end) ** 2 == pytest.approx(Z**2 * end * (1 - end) / of, abs=1e-12)


def test_wilson_s_interval_in_closed_form():
    assert wilson(5, 5) == pytest.approx((5 / (5 + Z**2), 1))
    assert wilson(0, 5) == pytest.approx((0, Z**2 / (5 + Z**2)))
    low, high = wilson(50, 100)
    assert high - 0.5 == pytest.approx(0.5 - low)
    assert high - 0.5 == pytest.approx(Z / 2 / math.sqrt(100 + Z**2))
    with pytest.raises(ValueError, match="at least 1"):
        wilson(0, 0)


def test_the_average_s_interval_in_closed_form():
    assert mean_interval([0, 1]) == pytest.approx((0.5, Z * 0.5))
    assert mean_interval([0.5] * 4) == (0.5, 0)
    assert mean_interval([0.25]) == (0.25, None)
    assert mean_interval([0, 0, 1, 1]) == pytest.approx((0.5, Z * math.sqrt(1 / 3) / 2))


def test_the_table_counts_the_chosen_run(save):
    files = [save(answers(who=f"p{i}", wins=(i < 3, False))) for i in range(4)]
    lines = table(read_answers(files), "imprint").splitlines()
    low, high = wilson(3, 4)
    cells = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert lines[0] == "|  | a bell / a castle | barking / dogs | average |"
    assert cells[:2] == ["audio quality", f"75.0 ({100 * low:.1f} to {100 * high:.1f})"]
    assert cells[2].startswith("0.0 (0.0 to ")
    assert cells[3] == f"37.5 ({100 * mean_interval([0.5, 0.5, 0.5, 0])[1]:.1f})"
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["audio quality", "visual quality", "alignment"]


def test_participants_who_chose_noise_are_left_out_with_a_message(save, capsys):
    files = [
        save(answers(who="fine", wins=(True, True))),
        save(answers(who="random", wins=(False, False), caught=True)),
    ]
    assert main(["study-results", *map(str, files)]) == 0
    printed = capsys.readouterr().out
    assert f"excluded: random ({files[1]}) chose noise 3 times in the catch trials" in printed
    assert "ours against imprint, 1 participants" in printed
    assert "100.0 (20.7 to 100.0) | 100.0 |" in printed  # Wilson's 1 of 1; one participant has no interval
    assert main(["study-results", str(files[1])]) == 1
    assert "all participants are excluded" in capsys.readouterr().out


def changed(**change):
    content = answers(who="p2")
    content["trials"][0] = {**content["trials"][0], **change}
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "has no answers of a study"),
        ("[1]", "has no answers of a study"),
        ({"format": "other", "participant": "p2"}, "has no answers of a study"),
        ({**answers(who="p2"), "trials": 3}, "is damaged"),
        ({**answers(who="p2"), "trials": []}, "is damaged: no trial compares ours and imprint"),
        (changed(answers={"visual": "left", "audio": "left"}), "is damaged: 'alignment' is missing"),
        (changed(answers=dict.fromkeys(("visual", "audio", "alignment"), "up")), "has no answer to audio"),
        (changed(left={"run": "ours"}), "trial 1 compares ours"),
        (changed(left={"run": None}), "trial 1 compares noise and ours"),
        (changed(left={"run": ["x"]}), "is damaged"),
        (changed(catch="no"), "trial 1 has no valid key catch"),
        (changed(visual=7), "has no visual prompt"),
        (answers(who="p2", study="t"), "is of another study than"),
        (answers(who="p1"), "are of one participant"),
    ],
)
def test_foreign_files_are_one_message(save, capsys, content, message):
    files = [save(answers(), "one.json"), save(content, "two.json")]
    assert main(["study-results", *map(str, files)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "two.json" in error
    assert len(error.splitlines()) == 1


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="can't be read: No such file"):
        read_answers([tmp_path / "x.json"])
