"""Search the settings of composing: `python -m its_plugins.mini.training.search --pack DIR --out FILE.json`.

Every setting is judged by the embedded judges on tuning seeds; the best one, and each expert alone, on other seeds.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import time
from pathlib import Path

import torch
from torch import Tensor

from its_plugins.mini.captions import CONCEPTS, Kind, classes
from its_plugins.mini.judge_network import CLASSES
from its_plugins.mini.training import loop, sampling
from its_plugins.mini.training.sampling import PAIRS, Pack, Settings

TUNING, FRESH = 100, 9_000  # first seeds
_EVERY = [
    Settings(visual_weight=weight, visual_guidance=visual, audio_guidance=audio, audio_start=start)
    for weight, (visual, audio), start in itertools.product(
        (0.4, 0.5, 0.56), ((6.0, 9.0), (6.0, 6.0), (4.5, 5.5), (4.5, 4.5)), (0.8, 0.85, 0.93)
    )
]
GRID = [_EVERY[index * 7 % len(_EVERY)] for index in range(len(_EVERY))]
"""In an order of which any beginning is spread over all of it."""


def verdict(kind: Kind, prompts: list[str], found: Tensor) -> dict[str, float]:
    """Mean probability of what the prompts name, and the share of samples in which it is the likeliest class, in %.

    `found`: probabilities (b, k), a row a prompt.
    """
    scores, right = [], []
    for prompt, row in zip(prompts, found, strict=True):
        named = [CLASSES[kind].index(name) for name in classes(kind, prompt)]
        scores.append(float(row[named].sum()))
        right.append(float(int(row.argmax()) in named))
    return {"score": round(100 * sum(scores) / len(scores), 1), "recognised": round(100 * sum(right) / len(right), 1)}


def judge(pack: Pack, settings: Settings, seeds: list[int], *, played: bool) -> dict:
    """Sample and judge every pair: figures of pictures and sounds by pair, their means and their minima.

    Sounds are judged as `played`, or quicker, by their spectrograms as they were drawn.
    """
    prompts = [pair for pair in PAIRS.values() for _ in seeds]
    gray = sampling.sample(pack, prompts, seeds * len(PAIRS), settings)
    sounds = sampling.heard(gray) if played else gray
    found = {"visual": sampling.judge_pictures(pack, gray), "audio": sampling.judge_sounds(pack, sounds)}
    pairs: dict[str, dict] = {}
    for index, (name, pair) in enumerate(PAIRS.items()):
        rows = slice(index * len(seeds), (index + 1) * len(seeds))
        pairs[name] = {
            "picture": verdict("visual", [pair[0]] * len(seeds), found["visual"][rows]),
            "sound": verdict("audio", [pair[1]] * len(seeds), found["audio"][rows]),
        }
    return {"pairs": pairs, **{f"{side} {name}": value for side, name, value in _totals(pairs)}}


def _totals(pairs: dict[str, dict]) -> list[tuple[str, str, float]]:
    found = []
    for side, figure in itertools.product(("picture", "sound"), ("score", "recognised")):
        values = [pair[side][figure] for pair in pairs.values()]
        found.append((side, figure, round(sum(values) / len(values), 1)))
        found.append((side, f"lowest {figure}", min(values)))
    return found


def worth(result: dict) -> float:
    """What the search maximises: how far both means lie towards certainty, and that no pair is left behind."""
    means = result["picture score"] + result["sound score"]
    return means + 0.5 * (result["picture lowest score"] + result["sound lowest score"])


def alone(pack: Pack, kind: Kind, seeds: list[int], settings: Settings) -> dict:
    """Each class of one kind, drawn by its expert alone with the first of its phrases."""
    phrases = {name: concept.phrases[0] for name, concept in CONCEPTS[kind].items()}
    said = [phrase for phrase in phrases.values() for _ in seeds]
    prompts = [(text, "") if kind == "visual" else ("", text) for text in said]
    settings = dataclasses.replace(settings, audio_start=1.0)
    gray = torch.cat(
        [
            sampling.sample(pack, prompts[i : i + 64], (seeds * len(phrases))[i : i + 64], settings)
            for i in range(0, len(prompts), 64)
        ]
    )
    if kind == "visual":
        found = sampling.judge_pictures(pack, gray).split(len(seeds))
    else:
        found = sampling.judge_sounds(pack, sampling.heard(gray)).split(len(seeds))
    return {
        name: verdict(kind, [phrase] * len(seeds), rows)
        for (name, phrase), rows in zip(phrases.items(), found, strict=True)
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Search the settings of composing with the pack.")
    parser.add_argument("--pack", type=Path, default=Path(__file__).parents[1] / "weights")
    parser.add_argument("--out", type=Path, required=True, help="the table, JSON")
    parser.add_argument("--seeds", type=int, default=6, help="of each pair, for tuning and again for checking")
    parser.add_argument("--minutes", type=float, default=600, help="no further setting is begun after these")
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
    best = Settings(**max(table, key=worth)["settings"])
    checked = {"settings": dataclasses.asdict(best), **judge(pack, best, fresh, played=True)}
    write(checked=checked)
    kinds: tuple[Kind, ...] = ("visual", "audio")
    write(checked=checked, alone={kind: alone(pack, kind, fresh, best) for kind in kinds})


if __name__ == "__main__":
    main()
