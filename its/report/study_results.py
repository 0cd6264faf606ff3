"""What people answered in a study: who counts, and how often the first run was chosen (as in the paper's Table 2)."""

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
"""Name in the answers -> what the paper's Table 2 calls it."""

Z = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""


@dataclass(frozen=True, kw_only=True)
class Answers:
    """One participant's.

    Attributes:
        file: where they came from.
        study: which study.
        participant: a random name.
        runs: the study's, the first one first.
        trials: as the page wrote them.
    """

    file: Path
    study: str
    participant: str
    runs: Sequence[str]
    trials: Sequence[Mapping[str, Any]]

    @property
    def mistakes(self) -> int:
        """How often noise was chosen in catch trials."""
        caught = [trial for trial in self.trials if trial["catch"]]
        return sum(_chosen(trial, question) is NOISE for trial in caught for question in QUESTIONS)

    def wins(self, other: str, question: str) -> dict[tuple[str, str], bool]:
        """(sound, picture) -> whether the first run was chosen, of the trials against another run."""
        return {
            (trial["audio"], trial["visual"]): _chosen(trial, question) == self.runs[0]
            for trial in self.trials
            if not trial["catch"] and other in (trial["left"]["run"], trial["right"]["run"])
        }


def _chosen(trial: Mapping[str, Any], question: str) -> str | None:
    run: str | None = trial[trial["answers"][question]]["run"]
    return run


def read_answers(files: Sequence[Path]) -> list[Answers]:
    """Read files that the page saved.

    Raises:
        UserError: a file isn't ours, is of another study, or a participant is there twice.
    """
    read: list[Answers] = []
    for file in files:
        answers = _read(file)
        for before in read:
            if before.participant == answers.participant:
                raise UserError(f"{file} and {before.file} are of one participant; expected everybody once")
            if before.study != answers.study:
                raise UserError(f"{file} is of another study than {before.file}; expected answers of one study")
        read.append(answers)
    return read


def _read(file: Path) -> Answers:
    try:
        content = json.loads(read_text(file))
    except OSError as error:
        raise UserError(f"{file} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{file} holds no answers of a study: expected a file that the page of its study saved")
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
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise UserError(f"{file} is damaged: {what}. Ask for the file once more") from None
    return answers


def _check(trial: Mapping[str, Any], runs: Sequence[str], number: int) -> None:
    """Raises ValueError, KeyError or TypeError where a trial isn't as the page writes it."""
    sides = {trial["left"]["run"], trial["right"]["run"]}
    if not isinstance(trial["catch"], bool):
        raise ValueError(f"trial {number} doesn't say whether it is a catch trial")
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
    """Wilson's 95 % interval of a share (J. Am. Stat. Assoc. 22, 1927): it holds for few answers, and at 0 and 1 too.

    Raises:
        ValueError: no answers.
    """
    if of < 1 or not 0 <= wins <= of:
        raise ValueError(f"wins (={wins}) must be in 0 to of (={of}), and of at least 1")
    share, weight = wins / of, Z**2 / of
    middle = (share + weight / 2) / (1 + weight)
    half = Z / (1 + weight) * math.sqrt(share * (1 - share) / of + weight / (4 * of))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def mean_interval(shares: Sequence[float]) -> tuple[float, float | None]:
    """Mean of the participants' shares, and half of its 95 % interval, Z std / sqrt(n); None for one participant.

    One participant's answers are not independent of each other, so participants are what is counted.
    """
    mean = sum(shares) / len(shares)
    if len(shares) < 2:
        return mean, None
    variance = sum((share - mean) ** 2 for share in shares) / (len(shares) - 1)
    return mean, Z * math.sqrt(variance / len(shares))


def table(answers: Sequence[Answers], other: str) -> str:
    """Win rates of the first run against another one in per cent, as Markdown: by pair of prompts, and on average."""
    pairs = list(dict.fromkeys(pair for a in answers for pair in a.wins(other, "audio")))
    rows = [["", *(f"{sound} / {picture}" for sound, picture in pairs), "average"]]
    for question, title in QUESTIONS.items():
        wins = [a.wins(other, question) for a in answers]
        cells = [_cell([won[pair] for won in wins if pair in won]) for pair in pairs]
        mean, half = mean_interval([sum(won.values()) / len(won) for won in wins])
        average = f"{100 * mean:.1f}" if half is None else f"{100 * mean:.1f} ({100 * half:.1f})"
        rows.append([title, *cells, average])
    return markdown_table(rows)


def _cell(won: Sequence[bool]) -> str:
    low, high = wilson(sum(won), len(won))
    return f"{100 * sum(won) / len(won):.1f} ({100 * low:.1f} to {100 * high:.1f})"
