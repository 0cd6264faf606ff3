"""Read the answers of a study, and compute the win rates of the first run, as in the paper's Table 2."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from its.errors import UserError
from its.media.limited import read_text
from its.output import markdown_table
from its.report.study import FORMAT, NOISE

QUESTIONS = {"audio": "audio quality", "visual": "visual quality", "alignment": "alignment"}
"""Titles of the questions in the paper's Table 2, by their name in the answers."""

Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers of a participant.

    Attributes:
        file: path of the file with the answers.
        study: id of the study.
        participant: random id.
        runs: names of the runs; the first was compared with the others.
        trials: trials as the page saved them.
    """

    file: Path
    study: str
    participant: str
    runs: Sequence[str]
    trials: Sequence[Mapping[str, Any]]

    @property
    def mistakes(self) -> int:
        """Number of answers in catch trials that chose the noise."""
        catch = [trial for trial in self.trials if trial["catch"]]
        return sum(_chosen_run(trial, question) is NOISE for trial in catch for question in QUESTIONS)

    def wins(self, other: str, question: str) -> dict[tuple[str, str], bool]:
        """Return whether the first run was chosen in each trial against another run, by (sound, image) prompt pair."""
        return {
            (trial["audio"], trial["visual"]): _chosen_run(trial, question) == self.runs[0]
            for trial in self.trials
            if not trial["catch"] and other in (trial["left"]["run"], trial["right"]["run"])
        }


def _chosen_run(trial: Mapping[str, Any], question: str) -> Any:
    return trial[trial["answers"][question]]["run"]


def read_answers(files: Sequence[Path]) -> list[Answers]:
    """Read files of answers that the page of a study saved.

    Raises:
        UserError: a file has no valid answers, two are of different studies, or two are of one participant.
    """
    all_answers: list[Answers] = []
    for file in files:
        answers = _read(file)
        for other in all_answers:
            if other.participant == answers.participant:
                raise UserError(f"{file} and {other.file} are of one participant; expected one file for each")
            if other.study != answers.study:
                raise UserError(f"{file} is of another study than {other.file}; expected answers of one study")
        all_answers.append(answers)
    return all_answers


def _read(file: Path) -> Answers:
    try:
        content = json.loads(read_text(file))
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{file} has no answers of a study; expected a file that a page of `its study` saved")
    try:
        answers = Answers(
            file=file,
            study=str(content["study"]),
            participant=str(content["participant"]),
            runs=[str(name) for name in content["runs"]],
            trials=list(content["trials"]),
        )
        for number, trial in enumerate(answers.trials, start=1):
            _check(trial, answers.runs, number)
        for other in answers.runs[1:]:
            if not answers.wins(other, "audio"):
                raise ValueError(f"no trial compares {answers.runs[0]} and {other}")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{file} is damaged: {reason}. Ask the participant for the file again") from None
    return answers


def _check(trial: Mapping[str, Any], runs: Sequence[str], number: int) -> None:
    """Check the form of a trial. Raises ValueError, KeyError or TypeError if it is invalid."""
    sides = {trial["left"]["run"], trial["right"]["run"]}
    if not isinstance(trial["catch"], bool):
        raise ValueError(f"trial {number} has no valid key catch")
    expected = NOISE if trial["catch"] else runs[0]
    if len(sides) != 2 or expected not in sides or not sides - {expected} <= {*runs}:
        raise ValueError(f"trial {number} compares {' and '.join(sorted(str(side or 'noise') for side in sides))}")
    for prompt in ("visual", "audio"):
        if not isinstance(trial[prompt], str):
            raise ValueError(f"trial {number} has no {prompt} prompt")
    for question in QUESTIONS:
        if trial["answers"][question] not in ("left", "right"):
            raise ValueError(f"trial {number} has no answer to {question}")


def wilson(wins: int, of: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a proportion (J. Am. Stat. Assoc. 22, 1927), also valid for few answers.

    Raises:
        ValueError: `of` is below 1, or `wins` is not in 0 to `of`.
    """
    if of < 1 or not 0 <= wins <= of:
        raise ValueError(f"wins (={wins}) must be in 0 to of (={of}), and of at least 1")
    share, weight = wins / of, Z**2 / of
    middle = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / of + weight / (4 * of))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def mean_interval(shares: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean of the participants' shares, and half of its 95 % interval, Z std / sqrt(n).

    n counts participants, because the answers of one participant are not independent. For one participant, the interval
    is None.
    """
    mean = sum(shares) / len(shares)
    if len(shares) < 2:
        return mean, None
    variance = sum((share - mean) ** 2 for share in shares) / (len(shares) - 1)
    return mean, Z * math.sqrt(variance / len(shares))


def table(answers: Sequence[Answers], other: str) -> str:
    """Format the first run's win rates against another run in Markdown, in percent, by prompt pair and on average."""
    pairs = list(dict.fromkeys(pair for each in answers for pair in each.wins(other, "audio")))
    rows = [["", *(f"{sound} / {picture}" for sound, picture in pairs), "average"]]
    for question, title in QUESTIONS.items():
        wins = [each.wins(other, question) for each in answers]
        cells = [_cell([won[pair] for won in wins if pair in won]) for pair in pairs]
        mean, half = mean_interval([sum(won.values()) / len(won) for won in wins])
        average = f"{100 * mean:.1f}" if half is None else f"{100 * mean:.1f} ({100 * half:.1f})"
        rows.append([title, *cells, average])
    return markdown_table(rows)


def _cell(won: Sequence[bool]) -> str:
    low, high = wilson(sum(won), len(won))
    return f"{100 * sum(won) / len(won):.1f} ({100 * low:.1f} to {100 * high:.1f})"
