"""Make a contact sheet of a run: `python -m its_plugins.mini.training.sheet --run RUN --out FILE.png`.

Each pair of prompts has a block with the samples of the run in rows of two, and beside them the canvases of the visual
and of the audio expert alone for the first seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from its.runs.reader import SPECTROGRAM, StoredSample, complete_samples
from its_plugins.mini.captions import Kind
from its_plugins.mini.training import loop, sampling

Gray = NDArray[np.uint8]

CELL = (332, 86)
"""Columns and rows of a canvas on the sheet."""
GAP, CAPTION = 3, 18
COLUMNS = 3


def by_pair(samples: list[StoredSample]) -> dict[tuple[str, str], list[StoredSample]]:
    """Group samples by visual and audio prompt, Table 5's pairs first, and sort them by seed."""
    groups: dict[tuple[str, str], list[StoredSample]] = {pair: [] for pair in sampling.PAIRS.values()}
    for sample in sorted(samples, key=lambda sample: sample.record["seed"]):
        groups.setdefault((sample.prompt("visual"), sample.prompt("audio")), []).append(sample)
    return {pair: group for pair, group in groups.items() if group}


def picture_of(sample: StoredSample) -> Gray:
    """Read the spectrogram of a sample, gray (256, 992)."""
    with Image.open(sample.require(SPECTROGRAM)) as picture:
        return np.asarray(picture.convert("L"))


def alone(pack: sampling.Pack, kind: Kind, prompt: str, seed: int) -> Gray:
    """Sample the canvas (256, 992) of one expert alone."""
    gray = sampling.sample_alone(pack, kind, prompt, [seed])[0, :, : -sampling.TRIM]
    return (gray * 255).round().byte().cpu().numpy()


def block(caption: str, composed: list[Gray], single: list[Gray]) -> Image.Image:
    """Draw the block of a pair: a caption, the composed canvases, and each expert alone in the last column."""
    lines = max(len(single), -(-len(composed) // (COLUMNS - 1)))
    sheet = Image.new("L", (COLUMNS * (CELL[0] + GAP) - GAP, CAPTION + lines * (CELL[1] + GAP)), 20)
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 3), caption, fill=230)
    draw.text((corner(0, COLUMNS - 1)[0] + 4, 3), "each expert alone", fill=230)
    places = [divmod(index, COLUMNS - 1) for index in range(len(composed))]
    places += [(line, COLUMNS - 1) for line in range(len(single))]
    for (line, column), gray in zip(places, [*composed, *single], strict=True):
        small = Image.fromarray(gray).resize(CELL, Image.Resampling.BOX)
        sheet.paste(small, corner(line, column))
    return sheet


def corner(line: int, column: int) -> tuple[int, int]:
    """Return the left column and the top row of a canvas in its block."""
    return column * (CELL[0] + GAP), CAPTION + line * (CELL[1] + GAP)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Make a contact sheet of the pack's samples in a run directory.")
    parser.add_argument("--run", type=Path, required=True, help="a run directory of `its predict`")
    parser.add_argument("--pack", type=Path, default=Path(__file__).parents[1] / "weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args()
    pack = sampling.load(options.pack, loop.device(options.device))
    blocks = []
    for (visual, audio), samples in by_pair(complete_samples([options.run])).items():
        seed = int(samples[0].record["seed"])
        single = [alone(pack, "visual", visual, seed), alone(pack, "audio", audio, seed)]
        blocks.append(np.asarray(block(f"{visual} + {audio}", [*map(picture_of, samples)], single)))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(blocks)).quantize(64).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
