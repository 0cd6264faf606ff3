"""Train the embedded judge: `python -m its_plugins.mini.training.judge --kind visual --work DIR --out DIR`.

Its data are the pack's, other draws of them: pictures alone, sounds alone, and products of both, drawn as it trains.
Needs the extra `pack` (cairosvg, scipy) and npm.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from its_plugins.mini.captions import Kind
from its_plugins.mini.judge_network import CLASSES, FILES, NONE, Classifier, cast, loud, shrink
from its_plugins.mini.training import canvases, pictures

COUNTS = {"train": 80, "held_out": 20}
"""Canvases of each class of pictures and of sounds that products are made from."""
SEEDS = {"train": 9_000, "held_out": 19_000}
"""The pack was trained on seeds 0 to 103."""
SHARES = {"own": 0.3, "other": 0.15, "noise": 0.03}
"""Of canvases of the judged kind alone, of the other kind alone, and of noise; the rest are products."""


def store(work: Path, split: str) -> dict[str, Tensor]:
    """Shrunken canvases, uint8 (count, 128, 256), by kind and class; made once."""
    path = work / f"judge_{split}.safetensors"
    if not path.exists():
        sprites, rng = pictures.load_sprites(work / "packages"), np.random.default_rng(SEEDS[split])
        made: dict[str, Tensor] = {}
        for name in CLASSES["visual"][:-1]:
            drawn = np.stack([pictures.picture(name, sprites, rng) for _ in range(2 * COUNTS[split])])
            made[f"visual.{name}"] = _bytes(shrink(torch.from_numpy(drawn)))
        for name in CLASSES["audio"][:-1]:
            heard = canvases.spectrograms(name, COUNTS[split], SEEDS[split])
            made[f"audio.{name}"] = _bytes(shrink(torch.from_numpy(heard)))
            print(f"{split}: {name}", flush=True)
        save_file(made, path)
    return load_file(path)


def _bytes(gray: Tensor) -> Tensor:
    return (gray * 255).round().to(torch.uint8)


class Draws:
    """Labelled canvases of one kind, by one random generator."""

    def __init__(self, kind: Kind, stored: dict[str, Tensor], seed: int, *, augment: bool = True) -> None:
        self.kind: Kind = kind
        self.stored, self.augment = stored, augment
        self.rng = np.random.default_rng(seed)

    def one(self, source: str) -> tuple[np.ndarray, int]:
        """A canvas (128, 248) of `own`, `other`, `noise` or `product`, and its class."""
        picture, visual = self._draw("visual")
        sound, audio = self._draw("audio")
        name = visual if self.kind == "visual" else audio
        if source == "noise":
            noise = self.rng.uniform(0, 0.6) + self.rng.uniform(0, 0.3) * self.rng.standard_normal(picture.shape)
            return self._disturb(noise.clip(0, 1).astype(np.float32)), CLASSES[self.kind].index(NONE)
        if source == "product":
            canvas = canvases.product(picture * np.float32(self.rng.uniform(0.8, 1)), sound, self.rng)
        else:
            canvas = picture if (source == "own") == (self.kind == "visual") else sound
            name = name if source == "own" else NONE
        return self._disturb(canvas), CLASSES[self.kind].index(name)

    def batches(self, size: int, shares: dict[str, float] = SHARES) -> Iterator[tuple[Tensor, Tensor]]:
        """Endless canvases (b, 128, 248) and classes (b,)."""
        sources, weights = [*shares, "product"], [*shares.values(), 1 - sum(shares.values())]
        while True:
            yield self.batch([str(self.rng.choice(sources, p=weights)) for _ in range(size)])

    def batch(self, sources: list[str]) -> tuple[Tensor, Tensor]:
        """A canvas of each source."""
        gray, names = zip(*(self.one(source) for source in sources), strict=True)
        canvas = torch.from_numpy(np.stack(gray)).float()
        return loud(canvas) if self.kind == "audio" else canvas, torch.tensor(names)

    def _draw(self, kind: Kind) -> tuple[np.ndarray, str]:
        name = str(self.rng.choice(CLASSES[kind][:-1]))
        pool = self.stored[f"{kind}.{name}"]
        canvas = pool[int(self.rng.integers(len(pool)))].numpy().astype(np.float32) / 255
        return np.roll(canvas, int(self.rng.integers(canvas.shape[1])), axis=1), name

    def _disturb(self, canvas: np.ndarray) -> np.ndarray:
        """Cut as the trim does; softer, noisier, darker or brighter, as an expert and its autoencoder may draw it."""
        canvas = canvas[:, :248]
        if not self.augment:
            return canvas
        rng = self.rng
        if rng.random() < 0.5:
            rows, columns = rng.uniform(0.3, 1.5, 2)
            canvas = _blur(_blur(canvas, rows, 0), columns, 1)
        canvas = canvas ** rng.uniform(0.75, 1.35) * rng.uniform(0.7, 1.05) + rng.uniform(-0.03, 0.1)
        canvas = canvas + rng.uniform(0, 0.06) * rng.standard_normal(canvas.shape)
        return canvas.clip(0, 1).astype(np.float32)


def _blur(canvas: np.ndarray, sigma: float, axis: int) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d

    return gaussian_filter1d(canvas, sigma, axis=axis)


def train(kind: Kind, work: Path, out: Path, seconds: float) -> None:
    """Fit a classifier; the learning rate's cosine ends with the time. Then measure and write it."""
    torch.manual_seed(0)
    model = Classifier(len(CLASSES[kind]))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    batches = Draws(kind, store(work, "train"), seed=1).batches(32)
    start, step, smooth = time.monotonic(), 0, 0.0
    model.train()
    while (done := (time.monotonic() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 50) * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))
        gray, names = next(batches)
        objective = nn.functional.cross_entropy(model(gray), names, label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        objective.backward()
        optimizer.step()
        step += 1
        smooth += max(0.02, 1 / step) * (objective.item() - smooth)
        if step % 50 == 0:
            print(
                json.dumps({"step": step, "loss": round(smooth, 4), "seconds": round(time.monotonic() - start)}),
                flush=True,
            )
    half = cast(model.state_dict(), torch.float16)
    model.load_state_dict(cast(half, torch.float32))  # what ships is what is measured
    path = out / FILES[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(half, path)
    figures = {"kind": kind, "steps": step, "batch": 32, "seconds": round(seconds), "loss": round(smooth, 4)}
    figures |= measure(model, kind, work)
    print(json.dumps(figures), flush=True)
    (path.with_suffix(".json")).write_text(json.dumps(figures, indent=2) + "\n")


@torch.no_grad()
def measure(model: Classifier, kind: Kind, work: Path, count: int = 600) -> dict[str, float]:
    """Accuracy on canvases that were held out, without disturbance and with."""
    model.eval()
    found: dict[str, float] = {}
    for augment in (False, True):
        draws = Draws(kind, store(work, "held_out"), seed=2, augment=augment)
        for source in ("own", "other", "product"):
            gray, names = draws.batch([source] * count)
            right = torch.cat([model(part).argmax(1) for part in gray.split(50)]) == names
            found[f"accuracy.{source}{'.disturbed' if augment else ''}"] = round(right.float().mean().item(), 4)
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train one of the embedded judge's two classifiers.")
    parser.add_argument("--kind", choices=list(CLASSES), required=True)
    parser.add_argument("--work", type=Path, required=True, help="scratch folder: downloads and data")
    parser.add_argument("--out", type=Path, required=True, help="the pack's folder")
    parser.add_argument("--minutes", type=float, default=12)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    for split in COUNTS:
        store(options.work, split)
    train(options.kind, options.work, options.out, options.minutes * 60)


if __name__ == "__main__":
    main()
