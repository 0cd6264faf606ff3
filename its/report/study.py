"""A human study as one page: which of two runs' samples looks, sounds, and fits together better (two-alternative
forced choice, arXiv 2405.12221, Section 4.3 and Appendix A.3)."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from its.errors import UserError
from its.media.atomic import atomic, make_folder
from its.media.contained import contained
from its.media.decode import naming, open_sound
from its.media.encode import write_png, write_wav
from its.media.headers import png_size, wav_seconds
from its.report.page import PAGE, check_page, render, write_page
from its.runs.reader import SOUND, SPECTROGRAM, Run, StoredSample, read_runs

FORMAT = "its study answers, version 1"
NOISE = None
"""The run of a catch trial's other side in the answers: it is of none."""

READING = 25.0
"""Seconds that somebody needs for the three questions, beside the time of playing; only to say how long it takes."""


def write_study(
    folders: Sequence[Path], output: Path, *, roles: tuple[str, str], samples: int, catch: int
) -> tuple[Path, dict[str, Any]]:
    """Write the page, and copies of the media under names that tell nothing.

    Args:
        folders: of the runs; the first one is compared with each of the others.
        output: where the page goes; made if need be.
        roles: names of the prompts of the picture and of the sound.
        samples: how many of each run and pair of prompts are used at most, the best ranked first.
        catch: how many trials have plain noise on one side.

    Returns:
        The page, and the data that it works on.

    Raises:
        UserError: a folder is no run, runs share no prompts, or the page can't be written. Nothing was changed.
    """
    runs = read_runs(folders)
    choices = [_choices(run, roles, samples) for run in runs]
    check_page(output / PAGE)
    media = _Media(contained(output, output / "media"))
    pairs = _pairs(runs, choices, media)
    noise = media.noise(like=next(iter(choices[0].values()))[0]) if catch else None
    media.copy()
    data = {
        "format": FORMAT,
        "runs": [run.name for run in runs],
        "pairs": pairs,
        "media": media.listed,
        "noise": {"run": NOISE, "sample": None, "media": noise},
        "catch": catch,
    }
    data["study"] = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]
    trials = len(pairs) + catch
    length = 2 * sum(m["seconds"] for m in media.listed) / len(media.listed) + READING
    html = render(
        "study.html",
        styles=["base.css", "study.css"],
        scripts=["player.js", "study.js"],
        trials=trials,
        minutes=math.ceil(trials * length / 60),
        data=data,
    )
    write_page(output / PAGE, html)
    return output / PAGE, data


def _choices(run: Run, roles: tuple[str, str], samples: int) -> dict[tuple[str, str], list[StoredSample]]:
    """Prompts of picture and sound -> the best samples of them, by rank where there is one, then by seed.

    Raises:
        UserError: no sample has prompts of these names.
    """
    found: dict[tuple[str, str], list[StoredSample]] = {}
    playable = [s for s in run.samples if s.playable and s.record.get("status") == "ok"]
    if not playable:
        raise UserError(f"{run.folder} has no sample with a picture and a sound to show")
    for sample in playable:
        prompts = sample.part("prompts")
        if all(role in prompts for role in roles):
            found.setdefault((str(prompts[roles[0]]), str(prompts[roles[1]])), []).append(sample)
    if not found:
        names = sorted({name for sample in playable for name in sample.part("prompts")})
        raise UserError(
            f"{run.folder}: no sample has prompts {roles[0]} and {roles[1]}; there are: {', '.join(names)}. Name that "
            "of the picture and that of the sound with --prompts"
        )
    return {prompts: sorted(group, key=_goodness)[:samples] for prompts, group in found.items()}


def _goodness(found: StoredSample) -> tuple[bool, float, float, str]:
    rank, seed = found.record.get("rank"), found.record.get("seed")
    number = [float(x) if isinstance(x, int | float) else math.inf for x in (rank, seed)]
    return found.record.get("kept") is not True, number[0], number[1], found.folder.name


def _pairs(
    runs: Sequence[Run], choices: Sequence[Mapping[tuple[str, str], Sequence[StoredSample]]], media: _Media
) -> list[dict[str, Any]]:
    """For each of the other runs, and each pair of prompts that it shares with the first one, who may be compared."""
    pairs: list[dict[str, Any]] = []
    for other, theirs in zip(runs[1:], choices[1:], strict=True):
        shared = [prompts for prompts in choices[0] if prompts in theirs]
        if not shared:
            raise UserError(
                f"{runs[0].folder} and {other.folder} share no prompts, so nothing of theirs can be compared: expected "
                "samples of the same pair of prompts in both"
            )
        for prompts in shared:
            first = [media.side(runs[0], found) for found in choices[0][prompts]]
            second = [media.side(other, found) for found in theirs[prompts]]
            pairs.append({"visual": prompts[0], "audio": prompts[1], "first": first, "other": second})
    return pairs


class _Media:
    """Pictures and sounds under names that say nothing of the run that they are from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listed: list[dict[str, Any]] = []
        self._sources: dict[str, Path] = {}
        self._known: dict[Path, int] = {}

    def side(self, run: Run, found: StoredSample) -> dict[str, Any]:
        """A sample as the page draws it."""
        if found.folder not in self._known:
            picture, sound = found.need(SPECTROGRAM), found.need(SOUND)
            self._known[found.folder] = self._add(self._name(picture), self._name(sound), picture, sound)
        return {"run": run.name, "sample": found.folder.name, "media": self._known[found.folder]}

    def copy(self) -> None:
        """Put everything there that isn't yet."""
        make_folder(self.folder)
        for name, source in self._sources.items():
            if source.parent != self.folder:
                with atomic(self.folder / name) as partial:
                    shutil.copyfile(source, partial)

    def noise(self, *, like: StoredSample) -> int:
        """White noise, seen and heard: nobody takes it for anything else."""
        import numpy as np

        make_folder(self.folder)
        draw = np.random.default_rng(0)
        columns, rows = png_size(like.need(SPECTROGRAM))
        with naming(like.need(SOUND)), open_sound(like.need(SOUND)) as file:
            frames, rate = file.frames, file.samplerate
        picture, sound = self.folder / "noise.png", self.folder / "noise.wav"
        write_png(picture, draw.integers(0, 256, (rows, columns), dtype=np.uint8))
        waveform = (0.05 * 32767 * draw.standard_normal(frames)).clip(-32767, 32767)
        write_wav(sound, waveform.round().astype(np.int16), rate)
        names = self._name(picture), self._name(sound)
        sources = [path.replace(path.with_name(name)) for path, name in zip((picture, sound), names, strict=True)]
        return self._add(*names, *sources)

    def _name(self, path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()[:16] + path.suffix

    def _add(self, picture: str, sound: str, picture_source: Path, sound_source: Path) -> int:
        self._sources |= {picture: picture_source, sound: sound_source}
        entry = {
            "picture": f"media/{picture}",
            "sound": f"media/{sound}",
            "size": png_size(picture_source),
            "seconds": wav_seconds(sound_source),
        }
        self.listed.append(entry)
        return len(self.listed) - 1
