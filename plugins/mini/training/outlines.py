"""Draw pictures in free arrangements and their outlines, to train and measure the pack's outline control.

Shapes used here: b batch, h w rows and columns (256, 1024 for a canvas), gray in [0, 1], outlines 0 or 1.

In `pictures`, objects always stand in the same slots, so a network could ignore their outlines. Here, one to six
objects of any size stand anywhere: warped sprites, or plain shapes filled with the texture of a sprite, since users
draw shapes that no sprite has.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn import functional

from its.media.edges import find_edges
from its_plugins.mini.training.pictures import HEIGHT, SPRITES, WIDTH, Sprite, picture

Gray = NDArray[np.float32]

SLOTS_SHARE = 0.1
"""Share of pictures in the slots of `pictures.picture`."""
SHAPE_SHARE = 0.4
"""Share of objects that are plain shapes."""
WARP = 0.14
"""Largest shift of a sprite's corners, as a share of its size."""


def outlined_picture(
    name: str, sprites: dict[str, Sprite], rng: np.random.Generator, *, slots_share: float = SLOTS_SHARE
) -> NDArray[np.uint8]:
    """Draw a picture of class `name` and its outline, one pixel wide: (2, 256, 1024), in 0 to 255.

    The outline has the lines inside of all, some or no objects.
    """
    if rng.random() < slots_share:
        gray = plain = picture(name, sprites, rng)
    else:
        gray, plain = _arrange(name, sprites, rng)
    high = float(rng.uniform(0.15, 0.5))
    outline = find_edges(torch.from_numpy(plain)[None], low=high / 2, high=high)[0].numpy()
    return (np.stack([gray, outline]) * 255).round().astype(np.uint8)


def vary(outlines: Tensor) -> Tensor:
    """Vary thin outlines (b, h, w): one to five pixels wide, shifted by up to two pixels, some of them blurred."""
    varied = []
    for outline in outlines:
        width, *shift = (int(number) for number in torch.cat([torch.randint(1, 6, (1,)), torch.randint(-2, 3, (2,))]))
        before = (width - 1) // 2
        padded = functional.pad(outline[None, None], (before, width - 1 - before) * 2)
        line = functional.max_pool2d(padded, width, stride=1)
        if torch.rand(()) < 0.3:
            line = functional.avg_pool2d(line, 3, stride=1, padding=1)
        varied.append(line[0, 0].roll(shift, (0, 1)))
    return torch.stack(varied)


def _arrange(name: str, sprites: dict[str, Sprite], rng: np.random.Generator) -> tuple[Gray, Gray]:
    """Draw one to six objects anywhere; and again, but some of them in one gray, without their inner lines."""
    names, weights = list(SPRITES[name][1]), np.array(list(SPRITES[name][1].values()))
    gray, plain = np.zeros((HEIGHT, WIDTH), np.float32), np.zeros((HEIGHT, WIDTH), np.float32)
    flat_share = rng.choice([0.0, 0.5, 1.0])
    for _ in range(int(rng.integers(1, 7))):
        sprite = sprites[str(rng.choice(names, p=weights / weights.sum()))]
        rows = max(24, round(HEIGHT * rng.uniform(0.25, 1.0)))
        ratio = sprite.gray.shape[1] / sprite.gray.shape[0] * math.exp(rng.uniform(-0.45, 0.45))
        columns = max(24, min(WIDTH, round(rows * ratio)))
        if rng.random() < SHAPE_SHARE:
            layer, alpha = _shape(sprite, (columns, rows), rng)
        else:
            layer, alpha = _warp(sprite, (columns, rows), rng)
        top = HEIGHT - rows if rng.random() < 0.5 else int(rng.integers(0, HEIGHT - rows + 1))
        left = round(rng.uniform(-0.15 * columns, WIDTH - 0.85 * columns))
        visible = np.s_[max(-left, 0) : min(WIDTH - left, columns)]
        box = np.s_[top : top + rows, max(left, 0) : min(left + columns, WIDTH)]
        mask = alpha[:, visible]
        gray[box] = gray[box] * (1 - mask) + layer[:, visible] * mask
        inner = rng.uniform(0.6, 1.0) if rng.random() < flat_share else layer[:, visible]
        plain[box] = plain[box] * (1 - mask) + inner * mask
    return gray, plain


def _warp(sprite: Sprite, size: tuple[int, int], rng: np.random.Generator) -> tuple[Gray, Gray]:
    """Resize a sprite to (columns, rows), its corners shifted, mirrored half of the time: gray and alpha (h, w)."""
    rows, columns = sprite.gray.shape
    corners = np.array([(0, 0), (0, rows), (columns, rows), (columns, 0)], np.float64)
    # The corners only move outwards in the sprite, so that all of it stays visible.
    corners += np.sign(corners - [columns / 2, rows / 2]) * rng.uniform(0, WARP, (4, 2)) * [columns, rows]
    if rng.random() < 0.5:
        corners = corners[[3, 2, 1, 0]]
    quad = tuple(corners.ravel())
    layers = (
        Image.fromarray(layer).transform(size, Image.Transform.QUAD, quad, Image.Resampling.BILINEAR)
        for layer in (sprite.gray, sprite.alpha)
    )
    gray, alpha = (np.asarray(layer).clip(0, 1) for layer in layers)
    return gray, alpha


def _shape(sprite: Sprite, size: tuple[int, int], rng: np.random.Generator) -> tuple[Gray, Gray]:
    """Draw a random shape of (columns, rows), filled with a part of a sprite: gray and alpha (h, w)."""
    columns, rows = size
    mask = Image.new("L", (2 * columns, 2 * rows), 0)
    SHAPES[int(rng.integers(len(SHAPES)))](ImageDraw.Draw(mask), 2 * columns, 2 * rows, rng)
    alpha = np.asarray(mask.resize(size, Image.Resampling.BOX), np.float32) / 255
    filled = sprite.gray * sprite.alpha + float(rng.uniform(0.5, 0.9)) * (1 - sprite.alpha)
    share = rng.uniform(0.3, 0.8)
    height, width = filled.shape
    top, left = (rng.uniform(0, length * (1 - share)) for length in (height, width))
    part = (left, top, left + share * width, top + share * height)
    texture = Image.fromarray(filled.astype(np.float32)).resize(size, Image.Resampling.BILINEAR, box=part)
    return np.asarray(texture).clip(0, 1), alpha


Shape = Callable[[ImageDraw.ImageDraw, int, int, np.random.Generator], None]
"""Draws a shape that fills w columns and h rows in 255."""


def _ellipse(draw: ImageDraw.ImageDraw, w: int, h: int, rng: np.random.Generator) -> None:
    draw.ellipse((0, 0, w - 1, h - 1), fill=255)


def _hill(draw: ImageDraw.ImageDraw, w: int, h: int, rng: np.random.Generator) -> None:
    draw.ellipse((0, 0, w - 1, 2 * h), fill=255)


def _polygon(draw: ImageDraw.ImageDraw, w: int, h: int, rng: np.random.Generator) -> None:
    count = int(rng.integers(3, 9))
    angles = (np.arange(count) + rng.uniform(-0.3, 0.3, count)) * 2 * np.pi / count
    radii = rng.uniform(0.5, 1.0, count)
    x, y = w / 2 * (1 + radii * np.cos(angles)), h / 2 * (1 + radii * np.sin(angles))
    draw.polygon(list(zip(x.tolist(), y.tolist(), strict=True)), fill=255)


def _tower(draw: ImageDraw.ImageDraw, w: int, h: int, rng: np.random.Generator) -> None:
    """Draw a wall with a pointed roof or battlements."""
    wall, inset = h * rng.uniform(0.2, 0.5), w * rng.uniform(0.0, 0.2)
    draw.rectangle((inset, wall, w - 1 - inset, h), fill=255)
    if rng.random() < 0.5:
        draw.polygon([(0, wall), (w / 2, 0), (w - 1, wall)], fill=255)
        return
    teeth = 2 * int(rng.integers(2, 5)) - 1
    draw.rectangle((0, wall / 2, w - 1, wall), fill=255)
    for tooth in range(0, teeth, 2):
        draw.rectangle((tooth * w / teeth, 0, (tooth + 1) * w / teeth, wall / 2), fill=255)


def _skyline(draw: ImageDraw.ImageDraw, w: int, h: int, rng: np.random.Generator) -> None:
    """Draw boxes of different heights side by side."""
    cuts = np.sort(rng.uniform(0, w, int(rng.integers(1, 5))))
    for left, right in zip([0, *cuts], [*cuts, w], strict=True):
        draw.rectangle((left, rng.uniform(0, 0.7) * h, right, h), fill=255)


SHAPES: tuple[Shape, ...] = (_ellipse, _hill, _polygon, _tower, _skyline)
