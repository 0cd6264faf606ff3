"""Train the embedded pack from scratch: `python -m its_plugins.mini.training.train --work DIR --out DIR --minutes N`.

The stages, in order: sprites, text encoder, autoencoder, latents, one network for both kinds, the visual and the audio
expert, the decoder again, the colour expert. A stage is skipped if its result is already in the work folder. When all
stages are done, or one fails, the finished models are exported. `--minutes` limits all stages together, except for the
sprites and the text encoder. Requires the extra `pack` (cairosvg, scipy), and npm for the sprites.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from its_plugins.mini.captions import CONCEPTS, Kind, captions
from its_plugins.mini.training import autoencoder, canvases, colors, experts, layout, loop, pictures, text
from its_plugins.mini.training.data_generator import DataGenerator
from its_plugins.mini.training.loop import logger


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Amounts of data and batch sizes for a type of device."""

    counts: dict[str, int]  # of each class: canvases for "visual" and "audio", sets of nine pictures for "color"
    crop: int  # side of the autoencoder's crops
    crops: int  # crops in a step of the autoencoder
    latents: int  # canvases to encode for the experts
    batch: int  # canvases in a step of an expert
    peak: float  # learning rate of the network for both kinds; the experts' is 0.7 of it


SIZES = {
    "cpu": Sizes(
        counts={"visual": 50, "audio": 110, "color": 13}, crop=64, crops=12, latents=4_000, batch=8, peak=1e-3
    ),
    "cuda": Sizes(
        counts={"visual": 150, "audio": 300, "color": 20}, crop=128, crops=48, latents=32_000, batch=64, peak=1.5e-3
    ),
}
CROPS = {"pictures": 0.2, "sounds": 0.3, "products": 0.5}
LATENTS = {"pictures": 0.16, "sounds": 0.26, "products": 0.58}


@dataclass(frozen=True)
class Latents:
    """Encoded canvases (n, 4, 32, 128), their sorts (n,) and class indices by kind (n,)."""

    clean: Tensor
    sorts: Tensor
    names: dict[Kind, Tensor]


@dataclass
class Run:
    """State of one training run: work folder, device, sizes and data."""

    work: Path
    device: torch.device
    sizes: Sizes
    data: DataGenerator
    latents: Latents | None = None

    @cached_property
    def log(self) -> loop.Log:
        """Function that appends a record to the log."""
        return logger(self.work / "log.jsonl")

    def canvases(self) -> canvases.Canvases:
        """Collect all canvases made so far, and wait until every class has at least one."""
        self.data.collect()
        self.log({"stage": "data", **self.data.counts()})
        return canvases.Canvases.of(self.data.arrays, self.device)

    @cached_property
    def embeddings(self) -> experts.CaptionEmbeddings:
        """Embeddings of all captions by kind and class. Requires the trained text encoder."""
        tokenizer = CLIPTokenizer.from_pretrained(self.work / "tokenizer")
        model = CLIPTextModel.from_pretrained(self.work / "text_encoder")
        return experts.CaptionEmbeddings.of(model, tokenizer, self.device)


def train_text(work: Path) -> None:
    """Train the tokenizer and the text encoder, in a minute or two on one core.

    Raises:
        RuntimeError: a caption is encoded as another class.
    """
    if (work / "text_encoder").exists():
        return
    torch.manual_seed(0)
    tokenizer = text.build_tokenizer()
    model = text.build_model(tokenizer)
    text.train(model, tokenizer, steps=500, log=logger(work / "log.jsonl"))
    for kind in CONCEPTS:
        for name in CONCEPTS[kind]:
            wordings = captions(kind, name)
            for caption, nearest in zip(wordings, text.nearest(model, tokenizer, wordings), strict=True):
                if nearest != (kind, name):
                    raise RuntimeError(f"{caption!r} is encoded as {nearest}, expected {name!r}: train longer")
    tokenizer.save_pretrained(work / "tokenizer")
    model.save_pretrained(work / "text_encoder")


def train_autoencoder(run: Run, until: float, *, decoder_only: bool) -> AutoencoderKL:
    """Train the autoencoder on crops of all sorts of canvases, or continue with the decoder alone."""
    torch.manual_seed(7 if decoder_only else 1)
    store, mix = run.canvases(), canvases.mix(CROPS, run.device)

    def draw(count: int = run.sizes.crops) -> Tensor:
        return store.draw(mix, count, run.sizes.crop)[0]

    model = AutoencoderKL.from_pretrained(run.work / "vae") if decoder_only else autoencoder.build()
    trained = autoencoder.train(
        model.to(run.device),
        draw,
        seconds=until - time.monotonic(),
        log=run.log,
        peak=1.5e-3 if decoder_only else 2e-3,
        decoder_only=decoder_only,
    )
    if not decoder_only:
        autoencoder.whiten(trained, draw(256))
    return trained


@torch.no_grad()
def make_latents(run: Run, until: float) -> Latents:
    """Encode `Sizes.latents` canvases, or fewer if the time is up."""
    begin = time.monotonic()
    torch.manual_seed(2)
    model = AutoencoderKL.from_pretrained(run.work / "vae").to(run.device).eval()
    store, mix = run.canvases(), canvases.mix(LATENTS, run.device)
    batches: list[tuple[Tensor, dict[Kind, Tensor]]] = []
    batch = run.sizes.batch
    while len(batches) * batch < run.sizes.latents and (not batches or time.monotonic() < until):
        gray, names = store.draw(mix, batch)
        batches.append((autoencoder.encode(model, gray, batch).half(), names))
    names = {kind: torch.cat([row[kind] for _, row in batches]) for kind in CONCEPTS}
    sorts = torch.full_like(names["visual"], canvases.SORTS.index("products"))
    sorts[names["audio"] < 0], sorts[names["visual"] < 0] = 0, 1
    run.log({"stage": "latents", "canvases": len(sorts), "seconds": round(time.monotonic() - begin, 1)})
    run.latents = Latents(torch.cat([clean for clean, _ in batches]), sorts, names)
    return run.latents


def train_expert(run: Run, until: float, *, name: str) -> UNet2DConditionModel:
    """Train the network `name` (joint, visual or audio). The experts start from the joint one."""
    torch.manual_seed(len(name))
    now = time.monotonic()
    latents = run.latents or make_latents(run, now + (until - now) / 4)
    mix = {(canvases.SORTS.index(sort), kind): share for (sort, kind), share in experts.MIXES[name].items()}
    return experts.train(
        experts.build() if name == "joint" else UNet2DConditionModel.from_pretrained(run.work / "joint"),
        experts.Examples.of(latents.clean, latents.sorts, latents.names, mix, run.embeddings),
        batch=run.sizes.batch,
        seconds=until - time.monotonic(),
        peak=run.sizes.peak * (1 if name == "joint" else 0.7),
        name=name,
        log=run.log,
    )


def train_color(run: Run, until: float) -> UNet2DConditionModel:
    """Train the colour expert."""
    torch.manual_seed(5)
    run.data.collect()
    clean, names = (tensor.to(run.device) for tensor in colors.training_pictures(run.data.arrays["color"]))
    return experts.train(
        colors.build().to(run.device),
        experts.Examples.of(clean, torch.zeros_like(names), {"visual": names}, {(0, "visual"): 1.0}, run.embeddings),
        batch=2 * run.sizes.batch,
        seconds=until - time.monotonic(),
        peak=2.5e-3,
        name="color",
        log=run.log,
        noising=colors.noising(),
        offset=0.0,
    )


class Stage(NamedTuple):
    """A stage of the training."""

    share: float  # of the time
    function: Callable[[Run, float], Any]  # called with the run and the end of the stage's time, in monotonic seconds
    output: str | None = None  # folder for the returned model; the stage is skipped if it exists


STAGES = {
    "first canvases": Stage(0.05, lambda run, until: run.data.collect(until - time.monotonic())),
    "vae": Stage(0.18, partial(train_autoencoder, decoder_only=False), "vae"),
    "latents": Stage(0.05, make_latents),
    "joint": Stage(0.15, partial(train_expert, name="joint"), "joint"),
    "visual": Stage(0.18, partial(train_expert, name="visual"), "visual"),
    "audio": Stage(0.26, partial(train_expert, name="audio"), "audio"),
    "decoder": Stage(0.06, partial(train_autoencoder, decoder_only=True), "vae_polished"),
    "color": Stage(0.08, train_color, "color"),
}


def train(run: Run, until: float) -> None:
    """Run all stages, each for its share of the time until `until` (monotonic seconds)."""
    device = torch.cuda.get_device_name() if run.device.type == "cuda" else platform.machine()
    run.log({"device": device, "cores": os.cpu_count(), "torch": torch.__version__})
    shares = [stage.share for stage in STAGES.values()]
    for index, (name, stage) in enumerate(STAGES.items()):
        begin = time.monotonic()
        end = begin + max(0.0, until - begin) * stage.share / sum(shares[index:])
        if stage.output is None:
            stage.function(run, end)
        elif not (run.work / stage.output).exists():
            stage.function(run, end).save_pretrained(run.work / stage.output)
        run.log({"stage": name, "whole": True, "seconds": round(time.monotonic() - begin, 1)})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train the embedded pack and write it as a pipeline folder.")
    parser.add_argument("--work", type=Path, required=True, help="folder for downloads, results of stages and the log")
    parser.add_argument("--out", type=Path, required=True, help="folder for the trained pack")
    parser.add_argument("--minutes", type=float, default=90, help="time for all stages together")
    parser.add_argument("--device", choices=["auto", *SIZES], default="auto")
    parser.add_argument("--eager", action="store_true", help="run without CUDA graphs")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    pictures.build_sprites(options.work / "sprites.npz", options.work / "packages")
    train_text(options.work)
    until = time.monotonic() + options.minutes * 60
    device = loop.device(options.device)
    sizes, loop.CUDA_GRAPHS = SIZES[device.type], not options.eager
    workers = max(1, (os.cpu_count() or 1) - 1)  # one core feeds the device
    data = DataGenerator(options.work / "sprites.npz", workers=workers, counts=sizes.counts)
    try:
        train(Run(options.work, device, sizes, data), until)
    finally:
        data.close()
        layout.export(options.work, options.out)


if __name__ == "__main__":
    main()
