"""Train the embedded pack from nothing: `python -m its_plugins.mini.training.train --work DIR --out DIR --minutes N`.

Stages, each skipped if its result is already in the work folder, so that a killed run goes on: text encoder,
sounds, autoencoder, latents, one network for both kinds, the two experts side by side, the decoder once more, the
colour expert, export.
Needs the extra `pack` (cairosvg, scipy) and npm. On a machine of C cores the text encoder, the sounds and the
latents take about 12 minutes of one core together, outside of `--minutes`.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from its_plugins.mini.captions import CONCEPTS, captions
from its_plugins.mini.training import autoencoder, canvases, colors, experts, layout, pictures, text

SHARDS = 4
SPLIT = {"vae": 0.11, "joint": 0.25, "experts": 0.48, "decoder": 0.08, "color": 0.08}  # of the minutes


def logger(path: Path) -> Callable[[dict], None]:
    """A function that prints a record and appends it to `path` as a line of JSON."""

    def log(record: dict) -> None:
        line = json.dumps(record)
        print(line, flush=True)
        with path.open("a") as file:
            file.write(line + "\n")

    return log


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


def sounds(work: Path) -> dict[str, Tensor]:
    """The store of spectrograms, made once."""
    counts = {name: 220 if share > 1 else 90 for name, share in canvases.AUDIO_SHARES.items()}
    return canvases.build_sounds(work / "sounds.safetensors", counts=counts)


def source(work: Path, seed: int) -> canvases.Canvases:
    """Canvases from the sprites and sounds in `work`."""
    sprites = pictures.load_sprites(work / "packages")
    return canvases.Canvases(sprites=sprites, sounds=sounds(work), seed=seed)


def crops(work: Path, seed: int) -> Iterator[Tensor]:
    """Endless crops of all three sorts of canvases."""
    return autoencoder.crops(pool(work, seed), batch=12, size=64, seed=seed)


def pool(work: Path, seed: int) -> Tensor:
    """(520, 256, 1024) uint8: 110 pictures, 150 sounds, 260 products."""
    draw = source(work, seed)
    drawn = [draw.pure_picture() for _ in range(110)]
    drawn += [draw.pure_sound() for _ in range(150)] + [draw.both() for _ in range(260)]
    return torch.from_numpy(np.stack([(canvas.gray * 255).round().astype(np.uint8) for canvas in drawn]))


def train_vae(work: Path, seconds: float) -> None:
    """The autoencoder, on crops of all three sorts of canvases."""
    if (work / "vae").exists():
        return
    torch.manual_seed(0)
    model = autoencoder.build()
    autoencoder.train(model, crops(work, seed=5), seconds=seconds, log=logger(work / "log.jsonl"))
    autoencoder.whiten(model, pool(work, seed=6)[::12].float() / 255)
    measure(model, work)
    model.save_pretrained(work / "vae")


def polish_decoder(work: Path, seconds: float) -> None:
    """Train the decoder on, the latents staying what the experts know."""
    if (work / "vae_polished").exists():
        return
    model = AutoencoderKL.from_pretrained(work / "vae")
    log = logger(work / "log.jsonl")
    autoencoder.train(model, crops(work, seed=7), seconds=seconds, log=log, peak=1.5e-3, decoder_only=True)
    measure(model, work)
    model.save_pretrained(work / "vae_polished")


def measure(model: AutoencoderKL, work: Path) -> None:
    """Log how well canvases that it wasn't trained on come back, in decibels."""
    fresh, log = pool(work, seed=8).float() / 255, logger(work / "log.jsonl")
    for sort, part in (("pictures", fresh[:8]), ("sounds", fresh[110:118]), ("products", fresh[260:268])):
        log({"stage": "vae", "canvases": sort, "decibels": round(autoencoder.decibels(model, part), 2)})


def make_latents(work: Path) -> None:
    """Shards of canvases, encoded."""
    folder = work / "latents"
    folder.mkdir(exist_ok=True)
    model = AutoencoderKL.from_pretrained(work / "vae").eval()
    for index in range(SHARDS):
        path = folder / f"{index:03d}.safetensors"
        if not path.exists():
            canvases.build_shard(source(work, seed=100 + index), lambda gray: autoencoder.encode(model, gray), path)


def train_expert(work: Path, name: str, seconds: float, threads: int, start: str | None = None) -> None:
    """The network `name` (joint, visual or audio), from the weights called `start` if given."""
    if (work / name).exists():
        return
    torch.set_num_threads(threads)
    torch.manual_seed(len(name))
    model = UNet2DConditionModel.from_pretrained(work / start) if start else experts.build()
    trained = experts.train(
        model,
        experts.Latents(work / "latents", embeddings=embeddings(work), seed=len(name)),
        experts.PLANS[name],
        seconds=seconds,
        name=name,
        log=logger(work / f"log_{name}.jsonl"),
        checkpoint=work / f"{name}.pt",
    )
    trained.save_pretrained(work / name)


def embeddings(work: Path) -> dict[str, list[Tensor]]:
    """Every caption's embedding, by kind and class; the text encoder is frozen by now."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    model = CLIPTextModel.from_pretrained(work / "text_encoder")
    table = {kind: [text.embed(model, tokenizer, captions(kind, name)) for name in CONCEPTS[kind]] for kind in CONCEPTS}
    return {**table, "empty": [text.embed(model, tokenizer, [""])[0]]}


def train_experts(work: Path, seconds: float, cores: int) -> None:
    """Both experts at once, half the cores each: two processes use two cores better than one with two threads."""
    context = multiprocessing.get_context("spawn")
    runs = [
        context.Process(target=train_expert, args=(work, name, seconds, max(1, cores // 2), "joint"))
        for name in ("visual", "audio")
    ]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    if failed := [run.exitcode for run in runs if run.exitcode]:
        raise RuntimeError(f"an expert's training ended with status {failed[0]}: see what it printed above")


def train_color(work: Path, seconds: float) -> None:
    """The colour expert, in one thread: its tensors are too small for more."""
    if (work / "color").exists():
        return
    if not (pool := work / "colors.safetensors").exists():
        colors.build_pool(source(work, seed=11), pool, count=1500)
    torch.set_num_threads(1)
    torch.manual_seed(5)
    trained = experts.train(
        colors.build(),
        colors.Pictures(pool, embeddings=embeddings(work), seed=5),
        colors.PLAN,
        seconds=seconds,
        name="color",
        log=logger(work / "log_color.jsonl"),
        checkpoint=work / "color.pt",
        noising=colors.noising(),
    )
    trained.save_pretrained(work / "color")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the embedded pack and write it as a pipeline folder.")
    parser.add_argument("--work", type=Path, required=True, help="scratch folder: downloads, data, checkpoints")
    parser.add_argument("--out", type=Path, required=True, help="where the pipeline folder goes")
    parser.add_argument("--minutes", type=float, default=90, help="for the autoencoder and the UNets together")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    seconds = {stage: share * options.minutes * 60 for stage, share in SPLIT.items()}
    cores = torch.get_num_threads()
    train_text(options.work)
    train_vae(options.work, seconds["vae"])
    make_latents(options.work)
    train_expert(options.work, "joint", seconds["joint"], cores)
    train_experts(options.work, seconds["experts"], cores)
    polish_decoder(options.work, seconds["decoder"])
    train_color(options.work, seconds["color"])
    layout.export(options.work, options.out)


if __name__ == "__main__":
    main()
