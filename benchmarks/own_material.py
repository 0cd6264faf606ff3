"""Measure how well own material is kept, and how seamless long canvases and loops are, with the embedded pack.

python benchmarks/own_material.py --seeds 6 --out results/own_material.json

- kept: mean difference of the picture from the start inside of the mask, and that of the codec's round trip.
- long: differences of adjacent columns at the ends of windows, and jumps of the sound's level there, as percentiles of
  those of the whole canvas.
- loop: step of the waveform and spectral flux across the loop point, as multiples of the file's median.
- cost: seconds for a sample, as multiples of plain sampling in the same process.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

import its
from its.report.image_that_sounds import ImageThatSounds

CASTLE, TIGERS = "a painting of castle towers, grayscale", "a painting of tigers, grayscale"
BELL, GROWL = "bell ringing", "tiger growling"
CONFIGS = ("castle_bell", "models/mini.yaml")
WIDTH, STRIDE, COLUMNS = 1024, 512, 3072
FRAME, HOP = 512, 64
"""Samples of a frame, and between frames, for spectral flux: 32 and 4 ms."""


def pipeline(**overrides: Any) -> its.Pipeline:
    """Return the pipeline of the castle, with config keys replaced."""
    return its.Pipeline.from_config(*CONFIGS, overrides=overrides, accelerator="cpu")


def towers(size: tuple[int, int], path: Path) -> Path:
    """Draw gray towers on black; rows and columns."""
    rows, columns = size
    picture = Image.new("L", (columns, rows), 0)
    draw = ImageDraw.Draw(picture)
    for left in range(rows // 4, columns - rows // 2, rows):
        draw.rectangle([left, rows // 4, left + rows // 2, rows], fill=200)
    picture.save(path)
    return path


def left_half(size: tuple[int, int], path: Path) -> Path:
    """Draw a mask whose left half is white."""
    rows, columns = size
    mask = Image.new("L", (columns, rows), 0)
    ImageDraw.Draw(mask).rectangle([0, 0, columns // 2 - 1, rows], fill=255)
    mask.save(path)
    return path


def gray(sample: ImageThatSounds) -> Tensor:
    """Return the spectrogram (H, W) in [0, 1]."""
    return torch.from_numpy(np.asarray(sample.image.convert("L"), dtype=np.float32) / 255)


def kept(seeds: range, folder: Path) -> dict[str, Any]:
    """Measure the kept half of a drawing, away from the border of the mask (32 pixels)."""
    pipe, size = pipeline(), (256, 992)
    start = {"image": towers(size, folder / "towers.png"), "strength": 1.0}
    mask = {"mask": left_half(size, folder / "mask.png")}
    original = torch.from_numpy(np.asarray(Image.open(folder / "towers.png"), dtype=np.float32) / 255)
    inside = slice(0, size[1] // 2 - 32)
    trip = gray(pipe(CASTLE, BELL, start={**start, "strength": 0.0}, progress=False))
    free = [gray(pipe(CASTLE, BELL, seed=seed, progress=False)) for seed in seeds[:1]]
    made = [gray(pipe(CASTLE, BELL, seed=seed, start=start, keep=mask, progress=False)) for seed in seeds]

    def error(picture: Tensor, reference: Tensor) -> float:
        return round(float((picture - reference)[:, inside].abs().mean()) * 255, 2)

    return {
        "unit": "of 255 gray levels",
        "kept, from the start": [error(each, original) for each in made],
        "round trip of the codec, from the start": error(trip, original),
        "kept, from the round trip": [error(each, trip) for each in made],
        "without keep, from the start": [error(each, original) for each in free],
    }


def long(seeds: range) -> dict[str, Any]:
    """Measure the borders of windows on a canvas of 30 s."""
    pipe = pipeline(**{"model.canvas": [256, COLUMNS], "model.windows": {"width": WIDTH, "stride": STRIDE}})
    starts = [*range(0, COLUMNS - WIDTH, STRIDE), COLUMNS - WIDTH]
    borders = sorted({x for start in starts for x in (start, start + WIDTH)} - {0, COLUMNS})
    columns, levels = [], []
    for seed in seeds:
        sample = pipe(CASTLE, BELL, seed=seed, progress=False)
        steps = gray(sample).diff(dim=1).abs().mean(0)
        columns += ranks(steps, [x - 1 for x in borders])
        sound = torch.from_numpy(np.asarray(sample.audio.samples, dtype=np.float32))
        power = sound.unfold(0, 1600, 160).square().mean(1).clamp(min=1e-8).log10() * 10  # 0.1 s, one for each column
        jumps = (power[20:] - power[:-20]).abs()  # from 0.1 s before to 0.1 s after
        levels += ranks(jumps, [x - 10 for x in borders])
    return {
        "borders": borders,
        "difference of adjacent columns, percentile": summary(columns, 50),
        "jump of the level over 0.2 s, percentile": summary(levels, 50),
    }


def ranks(values: Tensor, positions: list[int]) -> list[float]:
    """Return the percentile of the values at some positions among all values; 50 is ordinary."""
    return [round(100 * float((values < values[i]).float().mean()), 1) for i in positions if 0 <= i < len(values)]


def loop(seeds: range) -> dict[str, Any]:
    """Measure the point where a loop repeats, in picture and sound."""
    pipe = pipeline(**{"model.loop": True, "model.trim": 0})
    results: dict[str, list[float]] = {"step": [], "flux": [], "columns": []}
    for seed in seeds:
        sample = pipe(CASTLE, BELL, seed=seed, progress=False)
        sound = torch.from_numpy(np.asarray(sample.audio.samples, dtype=np.float32))
        steps = sound.diff().abs()
        results["step"].append(round(float((sound[0] - sound[-1]).abs() / steps.median()), 3))
        around = torch.cat([sound, sound[: 2 * FRAME]])
        spectra = torch.fft.rfft(around.unfold(0, FRAME, HOP) * torch.hann_window(FRAME)).abs()
        flux = spectra.diff(dim=0).clamp(min=0).sum(1)
        at = (len(sound) - FRAME) // HOP
        results["flux"].append(round(float(flux[at : at + FRAME // HOP].mean() / flux.median()), 3))
        picture = gray(sample)
        difference = picture.diff(dim=1).abs().mean(0)
        seam = torch.cat([difference, (picture[:, 0] - picture[:, -1]).abs().mean()[None]])
        results["columns"] += ranks(seam, [len(seam) - 1])
    return {
        "step of the waveform / median": summary(results["step"]),
        "spectral flux / median": summary(results["flux"]),
        "difference of first and last column, percentile": summary(results["columns"], 50),
    }


def cost(folder: Path) -> dict[str, Any]:
    """Measure seconds for a sample of 10 steps, as multiples of plain sampling; the median of three."""
    size = (256, 992)
    start = {"image": towers(size, folder / "towers.png"), "strength": 1.0}
    mask = {"mask": left_half(size, folder / "mask.png")}
    few = {"model.steps": 10}
    plain, looped = pipeline(**few), pipeline(**few, **{"model.loop": True, "model.trim": 0})
    third = {"model.canvas": [256, COLUMNS], "model.windows": {"width": WIDTH, "stride": STRIDE}}
    wide = pipeline(**few, **third)
    cases: Mapping[str, Callable[[], Any]] = {
        "plain": lambda: plain(CASTLE, BELL, progress=False),
        "start, strength 0.6": lambda: plain(CASTLE, BELL, start={**start, "strength": 0.6}, progress=False),
        "keep": lambda: plain(CASTLE, BELL, start=start, keep=mask, progress=False),
        "loop": lambda: looped(CASTLE, BELL, progress=False),
        "30 s in five windows": lambda: wide(CASTLE, BELL, progress=False),
    }
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(3):
        for name, make in cases.items():
            begin = time.perf_counter()
            make()
            seconds[name].append(time.perf_counter() - begin)
    base = statistics.median(seconds["plain"])
    return {name: round(statistics.median(values) / base, 2) for name, values in seconds.items()}


def summary(values: list[float], limit: float = 1) -> dict[str, Any]:
    """Return median, largest value and number of values, and how many are at most `limit`."""
    return {
        "median": round(statistics.median(values), 3),
        "largest": max(values),
        f"at most {limit:g}": sum(value <= limit for value in values),
        "of": len(values),
    }


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=6, help="samples of each measurement")
    parser.add_argument("--only", nargs="*", choices=["kept", "long", "loop", "cost"], help="measurements to run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "own_material.json")
    options = parser.parse_args()
    seeds = range(1234, 1234 + options.seeds)
    results = json.loads(options.out.read_text()) if options.out.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "loop": lambda: loop(seeds),
            "kept": lambda: kept(seeds, folder),
            "long": lambda: long(seeds[: max(1, options.seeds // 3)]),
            "cost": lambda: cost(folder),
        }
        for key in options.only or measures:
            results[key] = measures[key]()
            print(json.dumps({key: results[key]}, indent=2), flush=True)
            options.out.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
