"""Measure outline control: `python -m its_plugins.mini.training.measure_control --work DIR --out figures.json`.

Samples held-out drawings with and without their outline from the same noise: the visual expert alone, and composed with
the audio expert at the pack's settings. `--sheet` also makes a picture of all of them. Requires the sprites in DIR.

Shapes used here: b batch, canvases (b, 256, 1024).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image
from torch import Tensor
from torch.nn import functional

from its.media.edges import find_edges
from its_plugins.mini.captions import classes
from its_plugins.mini.judge_network import CLASSES
from its_plugins.mini.training import control, loop, outlines, pictures, sampling

SEED = 20_000  # of the first drawing; training starts at 0
LEAST = 1500
"""Pixels of the shortest outline: a scrap of an object at the frame would measure nothing."""
NOISE_SEED = 9200
SCALES = (0.0, 0.5, 1.0, 1.5)
REACH = 6  # pixels
PROMPTS = (*sampling.PAIRS.values(), sampling.PAIRS["castle"])


def followed(outlines: Tensor, gray: Tensor) -> Tensor:
    """Return the share of each outline's pixels with an edge of the result within `REACH` rows and columns, (b,)."""
    near = functional.max_pool2d(find_edges(gray)[:, None], 2 * REACH + 1, stride=1, padding=REACH)[:, 0]
    return (outlines * near).sum((1, 2)) / outlines.sum((1, 2))


def likeness(drawings: Tensor, gray: Tensor) -> Tensor:
    """Return the correlation of drawings and results, averaged over squares of 8 pixels, (b,)."""
    pairs = [functional.avg_pool2d(each[:, None], 8).flatten(1) for each in (drawings, gray)]
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(*pairs, strict=True)])


def held_out(sprites: Path) -> tuple[Tensor, Tensor]:
    """Draw a picture for each of `PROMPTS`, and its outline, three pixels wide, (b, 256, 1024) each.

    None has its objects in the slots of the expert's training data.
    """
    art, drawn = pictures.load_sprites(sprites), []
    for index, (visual, _) in enumerate(PROMPTS):
        name = classes("visual", visual)[0]
        tries = (
            outlines.outlined_picture(name, art, np.random.default_rng([SEED, index, k]), slots_share=0)
            for k in range(100)
        )
        drawn.append(next(each for each in tries if (each[1] > 0).sum() >= LEAST))
    both = torch.from_numpy(np.stack(drawn)).float() / 255
    return both[:, 0], functional.max_pool2d(both[:, 1:], 3, stride=1, padding=1)[:, 0]


def recognised(pack: sampling.Pack, gray: Tensor, *, composed: bool) -> dict[str, float]:
    """Return the shares of results, in percent, whose picture and sound are recognised as the prompt's class."""
    named = {"picture %": sampling.judge_pictures(pack, gray)}
    if composed:
        named["sound %"] = sampling.judge_sounds(pack, sampling.replay(gray))
    shares = {}
    for (name, probabilities), kind, index in zip(named.items(), ("visual", "audio"), (0, 1), strict=False):
        right = [
            CLASSES[kind][int(row.argmax())] in classes(kind, prompts[index])
            for row, prompts in zip(probabilities, PROMPTS, strict=True)
        ]
        shares[name] = 100 * sum(right) / len(right)
    return shares


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure how closely the pack's samples follow outlines.")
    parser.add_argument("--work", type=Path, required=True, help="folder with sprites.npz")
    parser.add_argument("--pack", type=Path, default=Path(__file__).parents[1] / "weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sheet", type=Path, help="PNG: drawings, outlines, and results of each scale in columns")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args()
    device = loop.device(options.device)
    pack = sampling.load(options.pack, device)
    model = ControlNetModel.from_pretrained(options.pack, subfolder="controlnet", torch_dtype=torch.float32)
    for network in (model, *pack.unets.values()):
        control.move(network, device)
    drawings, lines = held_out(options.work / "sprites.npz")
    seeds = [NOISE_SEED + index for index in range(len(PROMPTS))]
    columns = [drawings, lines]
    figures = {"drawings": recognised(pack, drawings.to(device), composed=False)}
    for composed in (False, True):
        settings = sampling.Settings(audio_start=0.8 if composed else 1.0)
        prompts = [(visual, audio if composed else "") for visual, audio in PROMPTS]
        for scale in SCALES:
            guide = sampling.Control(model, lines, scale) if scale else None
            gray = sampling.sample(pack, prompts, seeds, settings, guide).cpu()
            record = {
                "followed %": round(100 * followed(lines, gray).mean().item(), 1),
                "likeness": round(likeness(drawings, gray).mean().item(), 3),
                **recognised(pack, gray.to(device), composed=composed),
            }
            figures[f"{'composed' if composed else 'alone'}, scale {scale}"] = record
            print(json.dumps({"scale": scale, "composed": composed, **record}), flush=True)
            columns.append(gray)
    options.out.write_text(json.dumps(figures, indent=2) + "\n")
    if options.sheet:
        cells = functional.avg_pool2d(torch.stack(columns, 1), 4)  # (b, columns, 64, 256)
        sheet = torch.cat([torch.cat([*functional.pad(row, (0, 2, 0, 2), value=0.3)], 1) for row in cells])
        Image.fromarray((sheet * 255).round().byte().numpy()).save(options.sheet)


if __name__ == "__main__":
    main()
