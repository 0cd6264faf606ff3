"""Search sampling settings: `python -m its_plugins.mini.training.search --pack DIR --out FILE.json`.

The embedded judges score every setting on tuning seeds, then the best setting and each expert alone on other seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from its_plugins.mini.captions import CONCEPTS, Kind, classes
from its_plugins.mini.judge_network import CLASSES
from its_plugins.mini.training import loop, sampling
from its_plugins.mini.training.sampling import PAIRS, Pack, Settings

TUNING, FRESH = 100, 9_000  # first seeds
_SETTINGS = [
    Settings(visual_weight=weight, visual_guidance=visual, audio_guidance=audio, audio_start=start)
    for weight, (visual, audio), start in itertools.product(
        (0.4, 0.5, 0.56), ((6.0, 9.0), (6.0, 6.0), (4.5, 5.5), (4.5, 4.5)), (0.8, 0.85, 0.93)
    )
]
GRID = [_SETTINGS[index * 7 % len(_SETTINGS)] for index in range(len(_SETTINGS))]
"""All settings, in an order in which the first ones of any number are spread over the grid."""


def verdict(kind: Kind, prompt: str, probabilities: Tensor) -> dict[str, float]:
    """Summarise the probabilities (b, k) of a prompt's samples, in %.

    Returns:
        `score`, the mean probability of the prompt's classes; `recognised`, the share of samples in which the likeliest
        class is one of them.
    """
    indices = [CLASSES[kind].index(name) for name in classes(kind, prompt)]
    scores = probabilities[:, indices].sum(1)
    right = torch.isin(probabilities.argmax(1), torch.tensor(indices)).double()
    return {"score": round(100 * scores.mean().item(), 1), "recognised": round(100 * right.mean().item(), 1)}


def judge(pack: Pack, settings: Settings, seeds: list[int], *, played: bool) -> dict:
    """Sample and judge all pairs. Returns the verdicts of each pair, their means and minima.

    With `played`, sounds are vocoded before they are judged. Otherwise the canvas itself is judged, which is faster.
    """
    prompts = [pair for pair in PAIRS.values() for _ in seeds]
    gray = sampling.sample(pack, prompts, seeds * len(PAIRS), settings)
    pictures = sampling.judge_pictures(pack, gray).split(len(seeds))
    sounds = sampling.judge_sounds(pack, sampling.replay(gray) if played else gray).split(len(seeds))
    pairs = {
        name: {"picture": verdict("visual", visual, picture), "sound": verdict("audio", audio, sound)}
        for (name, (visual, audio)), picture, sound in zip(PAIRS.items(), pictures, sounds, strict=True)
    }
    result: dict[str, Any] = {"pairs": pairs}
    for side, figure in itertools.product(("picture", "sound"), ("score", "recognised")):
        values = [pair[side][figure] for pair in pairs.values()]
        result[f"{side} {figure}"] = round(sum(values) / len(values), 1)
        result[f"{side} lowest {figure}"] = min(values)
    return result


def objective(result: dict) -> float:
    """Return the objective of the search: the mean scores, and half of the scores of the worst pairs."""
    means = result["picture score"] + result["sound score"]
    return means + 0.5 * (result["picture lowest score"] + result["sound lowest score"])


def alone(pack: Pack, kind: Kind, seeds: list[int], settings: Settings) -> dict:
    """Sample and judge each class of one kind by its expert alone, with the first phrase of the class."""
    verdicts = {}
    for name, concept in CONCEPTS[kind].items():
        prompt = concept.phrases[0]
        gray = sampling.sample_alone(pack, kind, prompt, seeds, settings)
        visual = kind == "visual"
        judged = sampling.judge_pictures(pack, gray) if visual else sampling.judge_sounds(pack, sampling.replay(gray))
        verdicts[name] = verdict(kind, prompt, judged)
    return verdicts


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Search the settings for composing with the pack.")
    parser.add_argument("--pack", type=Path, default=Path(__file__).parents[1] / "weights")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the results")
    parser.add_argument("--seeds", type=int, default=6, help="samples of each pair, for tuning and again for checking")
    parser.add_argument("--minutes", type=float, default=600, help="time after which no further setting is tried")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args()
    pack, until = sampling.load(options.pack, loop.device(options.device)), time.monotonic() + options.minutes * 60
    tuning, fresh = (list(range(first, first + options.seeds)) for first in (TUNING, FRESH))
    table: list[dict] = []

    def write(**more: object) -> None:
        options.out.write_text(json.dumps({"tuning": table, **more}, indent=1) + "\n")

    for settings in GRID:
        if table and time.monotonic() > until:
            break
        table.append({"settings": dataclasses.asdict(settings), **judge(pack, settings, tuning, played=False)})
        print(json.dumps({key: value for key, value in table[-1].items() if key != "pairs"}), flush=True)
        write()
    best = Settings(**max(table, key=objective)["settings"])
    checked = {"settings": dataclasses.asdict(best), **judge(pack, best, fresh, played=True)}
    write(checked=checked)
    kinds: tuple[Kind, ...] = ("visual", "audio")
    write(checked=checked, alone={kind: alone(pack, kind, fresh, best) for kind in kinds})


if __name__ == "__main__":
    main()
