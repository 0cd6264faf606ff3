"""Contact sheet of a run: `python -m its_plugins.mini.training.sheet --run RUN --out FILE.png`.

A block for each pair of prompts: the samples of the run as `its predict` made them, in rows of two, and beside them
what the visual and the audio expert draw alone for the first seed.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from its_plugins.mini.training import loop, sampling
from its_plugins.mini.training.samples import Sample, read
from its_plugins.mini.training.sampling import Pack, Settings

Gray = NDArray[np.uint8]

CELL = (332, 86)
"""Columns and rows of a canvas on the sheet."""
GAP, CAPTION = 3, 18
COLUMNS = 3


def by_pair(samples: list[Sample]) -> dict[tuple[str, str], list[Sample]]:
    """Samples by visual and audio prompt, Table 5's pairs first."""
    found: dict[tuple[str, str], list[Sample]] = {pair: [] for pair in sampling.PAIRS.values()}
    for sample in samples:
        found.setdefault(sample.prompts, []).append(sample)
    return {pair: rows for pair, rows in found.items() if rows}


def alone(pack: Pack, pair: tuple[str, str], seed: int) -> list[Gray]:
    """The canvases (256, 992) of the visual and of the audio expert alone."""
    visual, audio = pair
    rows = [
        sampling.sample(pack, [prompts], [seed], Settings(audio_start=1.0)) for prompts in ((visual, ""), ("", audio))
    ]
    return [(row[0, :, : -sampling.TRIM] * 255).round().byte().cpu().numpy() for row in rows]


def block(caption: str, composed: list[Gray], single: list[Gray]) -> Image.Image:
    """One pair's part of the sheet: a caption, the composed canvases, and each expert's alone in the last column."""
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
    """Where a canvas stands in its block: left column, top row."""
    return column * (CELL[0] + GAP), CAPTION + line * (CELL[1] + GAP)


def stacked(blocks: list[Image.Image]) -> Image.Image:
    """Blocks of one width, one below the other."""
    return Image.fromarray(np.concatenate([np.asarray(block) for block in blocks]))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Contact sheet of the pack's samples in a run directory.")
    parser.add_argument("--run", type=Path, required=True, help="a run directory of `its predict`")
    parser.add_argument("--pack", type=Path, default=Path(__file__).parents[1] / "weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args()
    pack = sampling.load(options.pack, loop.device(options.device))
    blocks = []
    for (visual, audio), samples in by_pair(read(options.run)).items():
        composed = [sample.picture() for sample in samples]
        single = alone(pack, (visual, audio), samples[0].seed)
        blocks.append(block(f"{visual} + {audio}", composed, single))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    stacked(blocks).quantize(64).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
