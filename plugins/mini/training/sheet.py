"""Contact sheets, not selected: `python -m its_plugins.mini.training.sheet --out FILE.png --seeds 0 1 2 3`.

A row a pair of Table 5: each seed's composed canvas; then the first seed's of the picture expert and of the audio
expert alone.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from its_plugins.mini.training import loop, sampling
from its_plugins.mini.training.sampling import PAIRS, Pack, Settings


def row(pack: Pack, pair: tuple[str, str], seeds: list[int], settings: Settings) -> Tensor:
    """(seeds + 2, 256, 1024) canvases."""
    visual, audio = pair
    alone = [
        sampling.sample(pack, [prompts], seeds[:1], Settings(audio_start=1.0))
        for prompts in ((visual, ""), ("", audio))
    ]
    return torch.cat([sampling.sample(pack, [pair] * len(seeds), seeds, settings), *alone])


def grid(rows: list[Tensor], path: Path, *, shrink: int = 3) -> None:
    """Rows of (b, 256, 1024) canvases -> a gray PNG."""
    from PIL import Image

    lines = []
    for canvases in rows:
        framed = torch.nn.functional.pad(canvases, (0, 12, 0, 12), value=0.5)
        lines.append(torch.cat(list(framed), dim=1))
    picture = torch.nn.functional.avg_pool2d(torch.cat(lines)[None], shrink)[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((picture * 255).round().byte().cpu().numpy()).save(path, optimize=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Sample the pairs of Table 5 with the pack's settings.")
    parser.add_argument("--pack", type=Path, default=Path(__file__).parents[1] / "weights")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(4)))
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args()
    pack = sampling.load(options.pack, loop.device(options.device))
    grid([row(pack, pair, options.seeds, Settings()) for pair in PAIRS.values()], options.out)


if __name__ == "__main__":
    main()
