"""Train the pack's outline control: `python -m its_plugins.mini.training.control --work DIR --pack DIR --minutes N`.

A ControlNet (arXiv 2302.05543) for the visual expert, whose weights are frozen: a copy of its encoder also reads an
outline drawing, white lines on black, and adds to the expert's skip connections. It is trained on pictures and products
with the expert's own captions and loss. Outlines are always those of the picture alone, since they are to be followed
while the other expert adds sound. If DIR has the checkpoint of an earlier run, training continues from it; give another
`--seed` then, for new drawings. Requires the extra `pack` (cairosvg, scipy), npm for the sprites, and a trained pack.

Shapes used here: b batch, n canvases, h w rows and columns of a canvas (256, 1024).
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from einops import repeat
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from its_plugins.mini.captions import VISUAL
from its_plugins.mini.training import autoencoder, canvases, experts, layout, loop, outlines, pictures
from its_plugins.mini.training.data_generator import Arrays, DataGenerator
from its_plugins.mini.training.experts import CaptionEmbeddings

SHARED = (
    *("in_channels", "down_block_types", "only_cross_attention", "block_out_channels", "layers_per_block"),
    *("norm_num_groups", "cross_attention_dim", "attention_head_dim"),
)
"""Settings of the expert's encoder that its copy has too."""
OUTLINE_CHANNELS = (8, 16, 32, 64)  # of the convolutions that shrink an outline eightfold
EMPTY_SHARE = 0.3  # of captions: the outline alone must be understood, too


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """Amounts of data and batch size for a type of device."""

    counts: dict[str, int]  # of each class
    encoded: int  # canvases encoded at once; on a CPU, one at a time is fastest
    batch: int  # canvases in a step


SIZES = {
    "cpu": Sizes(counts={"outline": 170, "audio": 12}, encoded=1, batch=4),
    "cuda": Sizes(counts={"outline": 600, "audio": 60}, encoded=16, batch=32),
}


def build(expert: UNet2DConditionModel) -> ControlNetModel:
    """Build an untrained ControlNet of 1.2 M parameters from an expert's encoder. Its output is zero.

    The middle block is one residual block without attention: with all of the expert's, the pack exceeds 25 MB.
    """
    model = ControlNetModel(
        **{key: expert.config[key] for key in SHARED},
        mid_block_type="UNetMidBlock2D",
        conditioning_embedding_out_channels=OUTLINE_CHANNELS,
    )
    for copy, original in (
        (model.conv_in, expert.conv_in),
        (model.time_embedding, expert.time_embedding),
        (model.down_blocks, expert.down_blocks),
        (model.mid_block.resnets[0], expert.mid_block.resnets[0]),
    ):
        copy.load_state_dict(original.state_dict())
    return model


def move(network: ControlNetModel | UNet2DConditionModel, device: torch.device) -> None:
    """Move a network to a device, in the memory layout and with the attention that are fastest there."""
    network.to(device, memory_format=torch.channels_last)
    if device.type == "cpu":
        network.set_attn_processor(AttnProcessor())  # see `experts.train`


def to_condition(outline: Tensor) -> Tensor:
    """Convert outlines (b, h, w) in [0, 1] to a ControlNet's input, three equal channels (b, 3, h, w)."""
    return repeat(outline, "b h w -> b 3 h w")


def estimate_noise(
    control: ControlNetModel,
    expert: UNet2DConditionModel,
    noisy: Tensor,
    t: Tensor | int,
    embeddings: Tensor,
    outline: Tensor,
    scale: float = 1.0,
) -> Tensor:
    """Estimate the noise (b, 4, h/8, w/8) by the expert with outlines (b, h, w), their effect multiplied by `scale`."""
    down, middle = control(
        noisy, t, embeddings, controlnet_cond=to_condition(outline), conditioning_scale=scale, return_dict=False
    )
    return expert(
        noisy, t, embeddings, down_block_additional_residuals=down, mid_block_additional_residual=middle
    ).sample


@dataclass(frozen=True)
class Examples:
    """Training data: clean latents of canvases, the outlines of their pictures, and their classes."""

    clean: Tensor  # (n, 4, h/8, w/8)
    outlines: Tensor  # (n, h, w), uint8
    class_ids: Tensor  # (n,), numbers of classes
    weights: Tensor  # (n,), cumulative
    embeddings: CaptionEmbeddings

    def draw(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw latents, embeddings of their captions (b, l, c), and varied outlines (b, h, w).

        Canvases are rolled along time, by a random number of latent columns.
        """
        rows = canvases.pick(self.weights, batch)
        clean, outline = self.clean[rows].float(), outlines.vary(self.outlines[rows].float() / 255)
        shift = int(torch.randint(clean.shape[-1], (1,)))
        columns = shift * outline.shape[-1] // clean.shape[-1]
        return clean.roll(shift, -1), self.embeddings.draw(self.class_ids[rows]), outline.roll(columns, -1)


@torch.no_grad()
def make_examples(
    arrays: Arrays, vae: AutoencoderKL, embeddings: CaptionEmbeddings, until: float, batch: int = 1
) -> Examples:
    """Encode each picture alone or multiplied with a sound, as many as possible `until` (monotonic seconds)."""
    device = vae.device
    vae.to(memory_format=torch.channels_last)
    sounds = torch.from_numpy(np.stack([row for rows in arrays["audio"].values() for row in rows])).to(device)
    floors = canvases.floors(sounds)
    names = list(VISUAL)
    stored = [(names.index(name), row) for name, rows in arrays["outline"].items() for row in rows]
    order = torch.randperm(len(stored)).tolist()
    alone = experts.MIXES["visual"]["pictures", "visual"]
    clean: list[Tensor] = []
    while len(clean) * batch < len(stored) and (not clean or time.monotonic() < until):
        chosen = [stored[index][1][0] for index in order[len(clean) * batch : (len(clean) + 1) * batch]]
        shape = torch.from_numpy(np.stack(chosen)).to(device).float() / 255
        shape *= 0.85 + 0.15 * torch.rand(len(shape), 1, 1, device=device)
        picked = torch.randint(len(sounds), (len(shape),), device=device)
        shifts = torch.randint(sounds.shape[2], (len(shape),)).tolist()
        texture = torch.stack([sounds[row].roll(shift, 1) for row, shift in zip(picked.tolist(), shifts, strict=True)])
        product = canvases.product(shape, texture.float() / 255, floors[picked])
        silent = torch.rand(len(shape), 1, 1, device=device) < alone
        clean.append(autoencoder.encode(vae, torch.where(silent, shape, product), batch).half())
    latents = torch.cat(clean)
    used = [stored[index] for index in order[: len(latents)]]
    classes = torch.tensor([index for index, _ in used])
    shares = torch.tensor([concept.share for concept in VISUAL.values()])
    weights = shares[classes] / torch.bincount(classes, minlength=len(shares))[classes]
    return Examples(
        clean=latents,
        outlines=torch.from_numpy(np.stack([row[1] for _, row in used])).to(device),
        class_ids=(embeddings.first["visual"] + classes).to(device),
        weights=canvases.cumulative(weights).to(device),
        embeddings=embeddings,
    )


def train(
    model: ControlNetModel,
    expert: UNet2DConditionModel,
    examples: Examples,
    *,
    batch: int,
    seconds: float,
    log: loop.Log,
    checkpoint: Path,
    peak: float = 6e-4,
) -> ControlNetModel:
    """Train for `seconds` and return the average of the weights (EMA), which is saved to `checkpoint` meanwhile."""
    device = examples.clean.device
    expert.requires_grad_(False)
    for network in (model, expert):
        move(network, device)
    loss = experts.NoiseLoss(experts.scheduler(), experts.OFFSET, device)

    def objective(model: ControlNetModel) -> Tensor:
        clean, embeddings, outline = examples.draw(batch)
        return loss(clean, lambda noisy, t: estimate_noise(model, expert, noisy, t, embeddings, outline))

    return loop.fit(
        model,
        objective,
        seconds=seconds,
        peak=peak,
        name="control",
        log=log,
        save=lambda average: average.save_pretrained(checkpoint),
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Train a ControlNet for outlines and write it into the pack's folder.")
    parser.add_argument("--work", type=Path, required=True, help="folder for downloads, the log and checkpoints")
    parser.add_argument("--pack", type=Path, required=True, help="folder of the trained pack, written to")
    parser.add_argument("--minutes", type=float, default=70, help="time for data and training")
    parser.add_argument("--seed", type=int, default=0, help="first seed of the drawings and sounds of each class")
    parser.add_argument("--device", choices=["auto", *SIZES], default="auto")
    options = parser.parse_args()
    until = time.monotonic() + options.minutes * 60
    options.work.mkdir(parents=True, exist_ok=True)
    sprites = options.work / "sprites.npz"
    pictures.build_sprites(sprites, options.work / "packages")
    device = loop.device(options.device)
    sizes, log = SIZES[device.type], loop.logger(options.work / "control.jsonl")
    loop.CUDA_GRAPHS = False  # varying the outlines depends on values of the host
    workers = max(1, (os.cpu_count() or 1) - 1)
    data = DataGenerator(sprites, workers=workers, counts=sizes.counts, seed=options.seed)
    try:
        data.collect(0.1 * (until - time.monotonic()))
    finally:
        data.close()
    log({"stage": "data", **data.counts()})
    torch.manual_seed(options.seed + 3)
    encoder = CLIPTextModel.from_pretrained(options.pack, subfolder="text_encoder", dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(options.pack, subfolder="tokenizer")
    embeddings = CaptionEmbeddings.of(encoder, tokenizer, device, EMPTY_SHARE)
    begin = time.monotonic()
    vae = autoencoder.load(options.pack).to(device)
    examples = make_examples(data.arrays, vae, embeddings, begin + 0.12 * (until - begin), sizes.encoded)
    log({"stage": "latents", "canvases": len(examples.clean), "seconds": round(time.monotonic() - begin, 1)})
    data.arrays.clear()
    expert = UNet2DConditionModel.from_pretrained(options.pack, subfolder="unet", torch_dtype=torch.float32)
    checkpoint = options.work / "controlnet"
    trained = train(
        ControlNetModel.from_pretrained(checkpoint) if checkpoint.exists() else build(expert),
        expert,
        examples,
        batch=sizes.batch,
        seconds=until - time.monotonic(),
        log=log,
        checkpoint=checkpoint,
    )
    trained.save_pretrained(checkpoint)
    layout.export_network(ControlNetModel, checkpoint, options.pack / "controlnet")


if __name__ == "__main__":
    main()
