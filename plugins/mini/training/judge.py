"""Train the embedded judges: `python -m its_plugins.mini.training.judge --work DIR --out DIR`.

The training data are like the pack's, with other seeds: pictures alone, sounds alone, noise, and products of both.
Requires the extra `pack` (cairosvg, scipy), and npm for the sprites.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from its_plugins.mini.captions import CONCEPTS, Kind
from its_plugins.mini.judge_network import CLASSES, FILES, ROWS, Classifier, amplify, cast
from its_plugins.mini.training import canvases, loop, pictures
from its_plugins.mini.training.data_generator import DataGenerator

COUNTS = {"train": {"visual": 90, "audio": 90}, "held out": {"visual": 25, "audio": 20}}
"""Number of canvases of each class."""
SEEDS = {"train": 9_000, "held out": 19_000}
"""First seeds; the pack is trained on seeds from 0 on."""
NOISE = 0.03
"""Share of noise among the canvases."""
BATCH = {"cpu": 32, "cuda": 256}


def mix(kind: Kind) -> dict[str, float]:
    """Return the shares of canvases of the judged kind alone, of the other kind alone, and of products."""
    own, other = ("pictures", "sounds") if kind == "visual" else ("sounds", "pictures")
    return {own: 0.3, other: 0.18, "products": 0.52}


def make_store(data: DataGenerator, device: torch.device) -> canvases.Canvases:
    """Resize the generated canvases to the judges' input. All classes are drawn equally often."""
    full = canvases.Canvases.of(data.arrays, device)
    gray = {kind: torch.cat([_resize(x) for x in canvas.split(64)]) for kind, canvas in full.gray.items()}
    shares = {kind: torch.ones_like(share) for kind, share in full.shares.items()}
    return canvases.Canvases(gray=gray, names=full.names, shares=shares)


def _resize(gray: Tensor) -> Tensor:
    """Resize canvases (b, 256, 1024) uint8 to (b, 128, 256) uint8."""
    size = ROWS, gray.shape[2] * ROWS // 2 // gray.shape[1]
    return nn.functional.interpolate(gray[:, None].float(), size, mode="area")[:, 0].round().to(torch.uint8)


def draw(
    kind: Kind, store: canvases.Canvases, shares: Tensor, batch: int, *, augment: bool = True
) -> tuple[Tensor, Tensor]:
    """Draw canvases (b, 128, 248), trimmed as in `its`, and their classes (b,)."""
    gray, names = store.draw(shares, batch)
    label = torch.where(names[kind] < 0, len(CONCEPTS[kind]), names[kind])
    if augment:
        noise = torch.rand(batch, device=gray.device) < NOISE
        gray = torch.where(noise[:, None, None], _noise(gray), gray)
        label = torch.where(noise, len(CONCEPTS[kind]), label)
        gray = disturb(gray)
    gray = gray[:, :, :248]
    return amplify(gray) if kind == "audio" else gray, label


def _noise(gray: Tensor) -> Tensor:
    return (_uniform(gray, 0, 0.6) + _uniform(gray, 0, 0.3) * torch.randn_like(gray)).clamp(0, 1)


def disturb(gray: Tensor) -> Tensor:
    """Blur, add noise, and change the brightness at random, like errors of an expert and its autoencoder."""
    blurred = _blur(_blur(gray, _uniform(gray, 0.3, 1.5)).mT, _uniform(gray, 0.3, 1.5)).mT
    gray = torch.where(_uniform(gray, 0, 1) < 0.5, blurred, gray).clamp(0, 1)
    gray = gray ** _uniform(gray, 0.75, 1.35) * _uniform(gray, 0.7, 1.05) + _uniform(gray, -0.03, 0.1)
    return (gray + _uniform(gray, 0, 0.06) * torch.randn_like(gray)).clamp(0, 1)


def _uniform(like: Tensor, low: float, high: float) -> Tensor:
    """Draw numbers (b, 1, 1) between low and high."""
    return low + (high - low) * torch.rand(len(like), 1, 1, device=like.device)


def _blur(gray: Tensor, sigma: Tensor, reach: int = 5) -> Tensor:
    """Blur (b, h, w) along columns by a Gaussian, each canvas by its own sigma (b, 1, 1)."""
    offsets = torch.arange(-reach, reach + 1, device=gray.device)
    kernels = (-0.5 * (offsets / sigma) ** 2).softmax(2)
    padded = nn.functional.pad(gray, (reach, reach), mode="replicate")
    return nn.functional.conv2d(padded[None], kernels[:, :, None], groups=len(gray))[0]


def train(kind: Kind, stores: dict[str, canvases.Canvases], out: Path, seconds: float, log: loop.Log) -> None:
    """Train a classifier, measure it on held-out canvases, and write weights and figures."""
    device = stores["train"].gray["visual"].device
    torch.manual_seed(0)
    shares, batch = canvases.mix(mix(kind), device), BATCH[device.type]

    def objective(model: Classifier) -> Tensor:
        gray, label = draw(kind, stores["train"], shares, batch)
        return nn.functional.cross_entropy(model(gray).float(), label, label_smoothing=0.05)

    network = Classifier(len(CLASSES[kind])).to(device)
    network = loop.fit(
        network, objective, seconds=seconds, peak=3e-3, name=f"{kind} judge", log=log, warm_up=50, weight_decay=0.02
    )
    half = cast({name: tensor.cpu() for name, tensor in network.state_dict().items()}, torch.float16)
    network.load_state_dict(cast(half, torch.float32))  # measure the float16 weights that are written
    path = out / FILES[kind]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(half, path)
    figures = {"kind": kind, "batch": batch, "seconds": round(seconds), **measure(network, kind, stores["held out"])}
    log(figures)
    path.with_suffix(".json").write_text(json.dumps(figures, indent=2) + "\n")


@torch.no_grad()
def measure(model: Classifier, kind: Kind, store: canvases.Canvases, count: int = 600) -> dict[str, float]:
    """Measure the accuracy on held-out canvases, with and without `disturb`."""
    device, accuracies = store.gray["visual"].device, {}
    torch.manual_seed(2)
    own, other, both = mix(kind)
    for augment in (False, True):
        for sort, label_of_sort in ((own, "own"), (other, "other"), (both, "product")):
            shares = canvases.mix({name: float(name == sort) for name in canvases.SORTS}, device)
            gray, label = draw(kind, store, shares, count, augment=augment)
            correct = torch.cat([model(x).argmax(1) for x in gray.split(50)]) == label
            name = f"accuracy.{label_of_sort}{'.disturbed' if augment else ''}"
            accuracies[name] = round(correct.float().mean().item(), 4)
    return accuracies


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train the embedded judge's two classifiers.")
    parser.add_argument("--work", type=Path, required=True, help="folder for downloads, sprites and the log")
    parser.add_argument("--out", type=Path, required=True, help="the pack's folder")
    parser.add_argument("--minutes", type=float, default=24, help="time for both judges, data included")
    parser.add_argument("--device", choices=["auto", *BATCH], default="auto")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    sprites = options.work / "sprites.npz"
    pictures.build_sprites(sprites, options.work / "packages")
    until, workers = time.monotonic() + options.minutes * 60, os.cpu_count() or 1
    generators = {
        split: DataGenerator(sprites, workers=workers, counts=COUNTS[split], seed=SEEDS[split]) for split in COUNTS
    }
    loop.CUDA_GRAPHS = False  # a step has few launches
    device, log = loop.device(options.device), loop.logger(options.work / "judge.jsonl")
    stores = {}
    for split, data in generators.items():
        data.collect(0.4 * (until - time.monotonic()))
        stores[split] = make_store(data, device)
        log({"canvases": split, **data.counts()})
        data.close()
    train("visual", stores, options.out, (until - time.monotonic()) / 2, log)
    train("audio", stores, options.out, until - time.monotonic(), log)


if __name__ == "__main__":
    main()
