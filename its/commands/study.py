"""The command `its study`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from its.errors import UserError
from its.output import say


def study(
    runs: list[Path],
    *,
    output: Path = Path("study"),
    prompts: Sequence[str] = ("visual", "audio"),
    samples: int = 2,
    catch: int = 2,
) -> int:
    """Write the page of a user study that compares the samples of runs.

    It is a study of two-alternative forced choice: samples of the first run against those of each other run, for the
    same prompts. The page needs no network and no server, and saves the answers as a file.

    Args:
        runs: run directories of its predict; the first is compared with each of the others.
        output: folder for the page and its files.
        prompts: names of the prompts of the picture and of the sound.
        samples: samples of each run and prompt pair, the best ranked first.
        catch: number of catch trials, which have noise on one side.

    Raises:
        UserError: an option or a folder is invalid, the runs share no prompts, or the page can't be written.
    """
    from its.report.study import write_study

    if len(runs) < 2:
        raise UserError(f"its study got one run, {runs[0]}; expected two or more, to compare the first with the others")
    if len(prompts) != 2:
        raise UserError(f"--prompts is {' '.join(prompts)}; expected two names: the picture's and the sound's prompt")
    if samples < 1 or catch < 0:
        raise UserError(f"--samples is {samples} and --catch {catch}; expected 1 or more and 0 or more")
    page, data = write_study(runs, output, roles=(prompts[0], prompts[1]), samples=samples, catch=catch)
    for name in data["runs"][1:]:
        count = sum(side["run"] == name for pair in data["pairs"] for side in pair["other"][:1])
        say(f"{data['runs'][0]} against {name}: {count} pairs of prompts")
    if not catch:
        say("without catch trials, random answers can't be detected")
    say(f"{page}: send its folder to participants, and evaluate their answers with its study-results")
    return 0
