"""Train the embedded pack from nothing: `python -m its_plugins.mini.training.train --work DIR --out DIR --minutes N`.

Stages, each skipped if its result is already in the work folder: sprites, text encoder, autoencoder, latents, one
network for both kinds, the visual and the audio expert, the decoder once more, the colour expert. Whatever is there
at the end, or when a stage fails, is exported. `--minutes` bounds all stages together, but for the sprites and the
text encoder. Needs the extra `pack` (cairosvg, scipy), and npm for the sprites.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from its_plugins.mini.captions import CONCEPTS, Kind, captions
from its_plugins.mini.training import autoencoder, canvases, colors, experts, layout, loop, pictures, text
from its_plugins.mini.training.loop import logger
from its_plugins.mini.training.workshop import Workshop


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How much fits a device.

    Attributes:
        counts: canvases of each class: "visual", "audio"; lots of nine coloured pictures of each: "color".
        crop, crops: side and number of the crops of a step of the autoencoder.
        latents: canvases that the experts train on.
        batch: canvases of a step of an expert.
        peak: learning rate of the network for both kinds; the experts' is 0.7 of it.
    """

    counts: dict[str, int]
    crop: int
    crops: int
    latents: int
    batch: int
    peak: float


SIZES = {
    "cpu": Sizes(
        counts={"visual": 50, "audio": 110, "color": 13}, crop=64, crops=12, latents=4_000, batch=8, peak=1e-3
    ),
    "cuda": Sizes(
        counts={"visual": 150, "audio": 300, "color": 20}, crop=128, crops=48, latents=32_000, batch=64, peak=1.5e-3
    ),
}
SHARES = {
    "first canvases": 0.05,
    "vae": 0.18,
    "latents": 0.05,
    "joint": 0.15,
    "visual": 0.18,
    "audio": 0.26,
    "decoder": 0.06,
    "color": 0.08,
}
"""Of the time, in the order of the stages."""
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
    """One training run: where it works, on what, and with which data."""

    work: Path
    device: torch.device
    sizes: Sizes
    workshop: Workshop
    latents: Latents | None = None

    def log(self, record: dict) -> None:
        """Append a record to the log."""
        logger(self.work / "log.jsonl")(record)

    def canvases(self) -> canvases.Canvases:
        """A store of all that the workshop has made so far, at least one of each class."""
        self.workshop.collect()
        self.log({"stage": "data", **self.workshop.counts()})
        return canvases.Canvases.of(self.workshop.made, self.device)

    @cached_property
    def wordings(self) -> experts.Wordings:
        """Every caption's embedding, by kind and class; the text encoder is frozen by now."""
        tokenizer = CLIPTokenizer.from_pretrained(self.work / "tokenizer")
        model = CLIPTextModel.from_pretrained(self.work / "text_encoder")
        table = {
            kind: [text.embed(model, tokenizer, captions(kind, name)) for name in CONCEPTS[kind]] for kind in CONCEPTS
        }
        return experts.Wordings({**table, "empty": [text.embed(model, tokenizer, [""])[0]]}, self.device)


def train_text(work: Path) -> None:
    """Tokenizer and text encoder, a minute or two of one core."""
    if (work / "text_encoder").exists():
        return
    torch.manual_seed(0)
    tokenizer = text.build_tokenizer()
    model = text.build_model(tokenizer)
    text.train(model, tokenizer, steps=500, log=logger(work / "log.jsonl"))
    for kind in CONCEPTS:
        for name in CONCEPTS[kind]:
            found = text.nearest(model, tokenizer, captions(kind, name))
            if wrong := [said for said, near in zip(captions(kind, name), found, strict=True) if near != (kind, name)]:
                raise RuntimeError(f"the text encoder takes {wrong[0]!r} for another class than {name!r}: train longer")
    tokenizer.save_pretrained(work / "tokenizer")
    model.save_pretrained(work / "text_encoder")


def first_canvases(run: Run, seconds: float) -> None:
    """Give the workshop time to make some of everything."""
    run.workshop.collect(seconds)


def train_vae(run: Run, seconds: float) -> None:
    """The autoencoder, on crops of all three sorts of canvases."""
    until = time.monotonic() + seconds
    if (run.work / "vae").exists():
        return
    torch.manual_seed(1)
    store, mix = run.canvases(), canvases.mix(CROPS, run.device)
    trained = autoencoder.train(
        autoencoder.build().to(run.device),
        lambda: store.draw(mix, run.sizes.crops, run.sizes.crop)[0],
        seconds=until - time.monotonic(),
        log=run.log,
        peak=2e-3,
    )
    autoencoder.whiten(trained, store.draw(mix, 256, run.sizes.crop)[0])
    trained.save_pretrained(run.work / "vae")


@torch.no_grad()
def make_latents(run: Run, seconds: float) -> Latents:
    """Encode canvases until there are enough or the time is up."""
    until = time.monotonic() + seconds
    torch.manual_seed(2)
    model = AutoencoderKL.from_pretrained(run.work / "vae").to(run.device).eval()
    store, mix = run.canvases(), canvases.mix(LATENTS, run.device)
    made: list[tuple[Tensor, dict[Kind, Tensor]]] = []
    batch = run.sizes.batch
    while len(made) * batch < run.sizes.latents and (not made or time.monotonic() < until):
        gray, names = store.draw(mix, batch)
        made.append((autoencoder.encode(model, gray, batch).half(), names))
    names = {kind: torch.cat([row[kind] for _, row in made]) for kind in CONCEPTS}
    sorts = torch.full_like(names["visual"], canvases.SORTS.index("products"))
    sorts[names["audio"] < 0], sorts[names["visual"] < 0] = 0, 1
    run.log({"stage": "latents", "canvases": len(sorts), "seconds": round(time.monotonic() - until + seconds, 1)})
    run.latents = Latents(torch.cat([clean for clean, _ in made]), sorts, names)
    return run.latents


def train_expert(run: Run, name: str, seconds: float) -> None:
    """The network `name` (joint, visual or audio); the experts go on from the joint one."""
    until = time.monotonic() + seconds
    if (run.work / name).exists():
        return
    torch.manual_seed(len(name))
    latents = run.latents or make_latents(run, seconds / 4)
    mix = {(canvases.SORTS.index(sort), kind): share for (sort, kind), share in experts.MIXES[name].items()}
    trained = experts.train(
        experts.build() if name == "joint" else UNet2DConditionModel.from_pretrained(run.work / "joint"),
        experts.Examples.of(latents.clean, latents.sorts, latents.names, mix, run.wordings),
        batch=run.sizes.batch,
        seconds=until - time.monotonic(),
        peak=run.sizes.peak * (1 if name == "joint" else 0.7),
        name=name,
        log=run.log,
    )
    trained.save_pretrained(run.work / name)


def polish_decoder(run: Run, seconds: float) -> None:
    """Train the decoder on, the latents staying what the experts know."""
    until = time.monotonic() + seconds
    if (run.work / "vae_polished").exists():
        return
    torch.manual_seed(7)
    store, mix = run.canvases(), canvases.mix(CROPS, run.device)
    trained = autoencoder.train(
        AutoencoderKL.from_pretrained(run.work / "vae").to(run.device),
        lambda: store.draw(mix, run.sizes.crops, run.sizes.crop)[0],
        seconds=until - time.monotonic(),
        log=run.log,
        peak=1.5e-3,
        decoder_only=True,
    )
    trained.save_pretrained(run.work / "vae_polished")


def train_color(run: Run, seconds: float) -> None:
    """The colour expert."""
    until = time.monotonic() + seconds
    if (run.work / "color").exists():
        return
    torch.manual_seed(5)
    run.workshop.collect()
    clean, names = (tensor.to(run.device) for tensor in colors.pool(run.workshop.made["color"]))
    examples = experts.Examples.of(
        clean, torch.zeros_like(names), {"visual": names}, {(0, "visual"): 1.0}, run.wordings
    )
    trained = experts.train(
        colors.build().to(run.device),
        examples,
        batch=2 * run.sizes.batch,
        seconds=until - time.monotonic(),
        peak=2.5e-3,
        name="color",
        log=run.log,
        noising=colors.noising(),
        offset=0.0,
    )
    trained.save_pretrained(run.work / "color")


STAGES: dict[str, Callable[[Run, float], object]] = {
    "first canvases": first_canvases,
    "vae": train_vae,
    "latents": make_latents,
    "joint": lambda run, seconds: train_expert(run, "joint", seconds),
    "visual": lambda run, seconds: train_expert(run, "visual", seconds),
    "audio": lambda run, seconds: train_expert(run, "audio", seconds),
    "decoder": polish_decoder,
    "color": train_color,
}


def train(run: Run, until: float) -> None:
    """All stages; each gets its share of the time that is left until `until` (monotonic seconds)."""
    device = torch.cuda.get_device_name() if run.device.type == "cuda" else platform.machine()
    run.log({"device": device, "cores": os.cpu_count(), "torch": torch.__version__})
    for index, (name, stage) in enumerate(STAGES.items()):
        shares = list(SHARES.values())[index:]
        started = time.monotonic()
        stage(run, max(0.0, until - started) * shares[0] / sum(shares))
        run.log({"stage": name, "whole": True, "seconds": round(time.monotonic() - started, 1)})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the embedded pack and write it as a pipeline folder.")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder: downloads, results of stages, log")
    parser.add_argument("--out", type=Path, required=True, help="where the pipeline folder goes")
    parser.add_argument("--minutes", type=float, default=90, help="for all stages together")
    parser.add_argument("--device", choices=["auto", *SIZES], default="auto")
    parser.add_argument("--eager", action="store_true", help="no CUDA graphs")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    pictures.build_sprites(options.work / "sprites.npz", options.work / "packages")
    train_text(options.work)
    until = time.monotonic() + options.minutes * 60
    device = loop.device(options.device)
    sizes, loop.CUDA_GRAPHS = SIZES[device.type], not options.eager
    workers = max(1, (os.cpu_count() or 1) - 1)  # one core feeds the device
    workshop = Workshop(options.work / "sprites.npz", workers=workers, counts=sizes.counts)
    try:
        train(Run(options.work, device, sizes, workshop), until)
    finally:
        workshop.close()
        layout.export(options.work, options.out)


if __name__ == "__main__":
    main()
