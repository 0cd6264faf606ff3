"""The command `its study-results`."""

from __future__ import annotations

from pathlib import Path

from its.output import say


def study_results(files: list[Path]) -> int:
    """Print win rates from the answers to a study.

    Win rates are in percent with 95 % intervals, as in the paper's Table 2. Participants who chose noise in a catch
    trial are left out. The exit status is 1 if no participant is left.

    Args:
        files: files of answers, one of each participant.

    Raises:
        UserError: a file is not of a study, is of another study, or repeats a participant.
    """
    from its.report.study_results import read_answers, table

    answers = read_answers(files)
    counted = [answer for answer in answers if not answer.mistakes]
    for answer in answers:
        if answer.mistakes:
            name = f"{answer.participant} ({answer.file})"
            say(f"excluded: {name} chose noise {answer.mistakes} times in the catch trials")
    if not any(trial["catch"] for answer in answers for trial in answer.trials):
        say("this study had no catch trials: random answers are counted too")
    if not counted:
        say("all participants are excluded")
        return 1
    for other in counted[0].runs[1:]:
        say(f"\n{counted[0].runs[0]} against {other}, {len(counted)} participants: win rate in %\n")
        say(table(counted, other))
    say("\nPairs of prompts: Wilson's interval. Average: of participants, and in brackets 1.96 std / sqrt(n).")
    return 0
