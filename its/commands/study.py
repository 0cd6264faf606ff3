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
    """Write a page that asks people which of two runs' samples are better.

    It is a study of two-alternative forced choice: samples of the first run against those of each other run, for the
    same prompts. The page needs no network and no server, and saves the answers as a file.

    Args:
        runs: folders that its predict wrote, the one to compare with the others first.
        output: folder for the page and its files.
        prompts: names of the prompts of the picture and of the sound.
        samples: samples of each run and prompt pair, the best ranked first.
        catch: trials with noise on one side.

    Raises:
        UserError: an option or a folder is wrong, the runs share no prompts, or the page can't be written.
    """
    from its.report.study import write_study

    if len(runs) < 2:
        raise UserError(f"its study got one run, {runs[0]}; expected two or more, to compare the first with")
    if len(prompts) != 2:
        raise UserError(f"--prompts is {' '.join(prompts)}; expected two names, of the picture's and of the sound's")
    if samples < 1 or catch < 0:
        raise UserError(f"--samples is {samples} and --catch {catch}; expected 1 or more and 0 or more")
    page, data = write_study(runs, output, roles=(prompts[0], prompts[1]), samples=samples, catch=catch)
    for name in data["runs"][1:]:
        count = sum(side["run"] == name for pair in data["pairs"] for side in pair["other"][:1])
        say(f"{data['runs'][0]} against {name}: {count} pairs of prompts")
    if not catch:
        say("without catch trials, random answers can't be detected")
    say(f"the study is {page}: give people its folder; its study-results counts what they send back")
    return 0
