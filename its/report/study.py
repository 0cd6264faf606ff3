"""Write the page of a user study that compares the samples of runs.

The study is a two-alternative forced choice of the better picture, sound and alignment (arXiv 2405.12221, Section 4.3
and Appendix A.3).
"""

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
from its.media.marked import check_marked
from its.report.page import MARK, PAGE, render, write_page
from its.runs.reader import SOUND, SPECTROGRAM, Run, StoredSample, read_runs

FORMAT = "its study answers, version 1"
NOISE = None
"""Run of the noise in the answers of a catch trial."""

SECONDS_PER_TRIAL = 25.0
"""Time for the three questions of a trial, in addition to playing; only for the duration shown on the page."""


def write_study(
    folders: Sequence[Path], output: Path, *, roles: tuple[str, str], samples: int, catch: int
) -> tuple[Path, dict[str, Any]]:
    """Write the page of a study, and copy the media under names that do not reveal the run.

    Args:
        folders: run directories. The first run is compared with each of the others.
        output: folder of the page; made if it does not exist.
        roles: names of the image prompt and of the sound prompt.
        samples: maximum number of samples for each run and prompt pair, the best-ranked first.
        catch: number of catch trials, which have noise on one side.

    Returns:
        Path of the page, and its data.

    Raises:
        UserError: a folder is not a run directory, runs share no prompt pair, or the page can't be written.
    """
    runs = read_runs(folders)
    choices = [_choices(run, roles, samples) for run in runs]
    check_marked(output / PAGE, MARK)
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
    seconds = 2 * sum(m["seconds"] for m in media.listed) / len(media.listed) + SECONDS_PER_TRIAL
    html = render(
        "study.html",
        styles=["base.css", "player.css", "study.css"],
        scripts=["player.js", "study.js"],
        trials=trials,
        minutes=math.ceil(trials * seconds / 60),
        data=data,
    )
    write_page(output / PAGE, html)
    return output / PAGE, data


def _choices(run: Run, roles: tuple[str, str], samples: int) -> dict[tuple[str, str], list[StoredSample]]:
    """Map prompt pairs to their best samples: kept ones first, then by rank and seed.

    Raises:
        UserError: no sample is complete, or none has both prompts.
    """
    groups: dict[tuple[str, str], list[StoredSample]] = {}
    playable = [sample for sample in run.samples if sample.playable and sample.complete]
    if not playable:
        raise UserError(f"{run.folder} has no complete sample with a picture and a sound")
    for sample in playable:
        prompts = sample.mapping("prompts")
        if all(role in prompts for role in roles):
            groups.setdefault((str(prompts[roles[0]]), str(prompts[roles[1]])), []).append(sample)
    if not groups:
        names = sorted({name for sample in playable for name in sample.mapping("prompts")})
        raise UserError(
            f"{run.folder}: no sample has prompts named {roles[0]} and {roles[1]}; the names are {', '.join(names)}. "
            "Set the names of the image prompt and of the sound prompt with --prompts"
        )
    return {prompts: sorted(group, key=_best_first)[:samples] for prompts, group in groups.items()}


def _best_first(sample: StoredSample) -> tuple[bool, float, float, str]:
    values = (sample.record.get(key) for key in ("rank", "seed"))
    rank, seed = (float(x) if isinstance(x, int | float) else math.inf for x in values)
    return sample.record.get("kept") is not True, rank, seed, sample.folder.name


def _pairs(
    runs: Sequence[Run], choices: Sequence[Mapping[tuple[str, str], Sequence[StoredSample]]], media: _Media
) -> list[dict[str, Any]]:
    """List the samples to compare, for each other run and each prompt pair of both runs."""
    pairs: list[dict[str, Any]] = []
    for other, others in zip(runs[1:], choices[1:], strict=True):
        shared = [prompts for prompts in choices[0] if prompts in others]
        if not shared:
            names = f"{runs[0].folder} and {other.folder}"
            raise UserError(f"{names} share no prompts; expected samples of the same prompt pair in both")
        for prompts in shared:
            first = [media.side(runs[0], sample) for sample in choices[0][prompts]]
            second = [media.side(other, sample) for sample in others[prompts]]
            pairs.append({"visual": prompts[0], "audio": prompts[1], "first": first, "other": second})
    return pairs


class _Media:
    """Pictures and sounds of a study, named by their digests so that names do not reveal the run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.listed: list[dict[str, Any]] = []
        self._sources: dict[str, Path] = {}
        self._indices: dict[Path, int] = {}

    def side(self, run: Run, sample: StoredSample) -> dict[str, Any]:
        """Add a sample's media, and return its reference for the page and the answers."""
        if sample.folder not in self._indices:
            self._indices[sample.folder] = self._add(sample.require(SPECTROGRAM), sample.require(SOUND))
        return {"run": run.name, "sample": sample.folder.name, "media": self._indices[sample.folder]}

    def copy(self) -> None:
        """Copy all media that are not in the folder."""
        make_folder(self.folder)
        for name, source in self._sources.items():
            if source.parent != self.folder:
                with atomic(self.folder / name) as partial:
                    shutil.copyfile(source, partial)

    def noise(self, *, like: StoredSample) -> int:
        """Write a picture and a sound of white noise with the size, duration and sample rate of a sample."""
        import numpy as np

        make_folder(self.folder)
        draw = np.random.default_rng(0)
        columns, rows = png_size(like.require(SPECTROGRAM))
        with naming(like.require(SOUND)), open_sound(like.require(SOUND)) as file:
            frames, rate = file.frames, file.samplerate
        picture, sound = self.folder / "noise.png", self.folder / "noise.wav"
        write_png(picture, draw.integers(0, 256, (rows, columns), dtype=np.uint8))
        waveform = (0.05 * 32767 * draw.standard_normal(frames)).clip(-32767, 32767)
        write_wav(sound, waveform.round().astype(np.int16), rate)
        return self._add(*(path.replace(self.folder / _digest_name(path)) for path in (picture, sound)))

    def _add(self, picture: Path, sound: Path) -> int:
        names = _digest_name(picture), _digest_name(sound)
        self._sources |= dict(zip(names, (picture, sound), strict=True))
        paths = {"picture": f"media/{names[0]}", "sound": f"media/{names[1]}"}
        self.listed.append({**paths, "size": png_size(picture), "seconds": wav_seconds(sound)})
        return len(self.listed) - 1


def _digest_name(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16] + path.suffix
