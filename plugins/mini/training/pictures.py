"""Draw training pictures: emoji of a class side by side on a black canvas.

Shapes used here: h w rows and columns of a sprite or a canvas, gray in [0, 1], row 0 at the top.
The art comes from two Iconify packages, downloaded with npm; see `weights/LICENSE`.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from its_plugins.mini.captions import VISUAL

HEIGHT, WIDTH = 256, 1024

PACKAGES = {
    "noto": "@iconify-json/noto@1.2.9",  # Google's Noto Emoji, Apache-2.0
    "fluent": "@iconify-json/fluent-emoji-flat@1.2.6",  # Microsoft's Fluent Emoji, MIT
}

# Deliberately few and simple: with 284 varied sprites, shapes were blurred after the same training.
# class: (slots on a canvas, {package/icon: share})
SPRITES: dict[str, tuple[int, dict[str, float]]] = {
    "castle": (4, {"noto/castle": 0.6, "fluent/castle": 0.4}),
    "tiger": (4, {"noto/tiger-face": 0.7, "noto/tiger": 0.3}),
    "train": (4, {"noto/locomotive": 0.75, "noto/railway-car": 0.25}),
    "kitten": (4, {"noto/cat-face": 0.75, "noto/cat": 0.25}),
    "dog": (4, {"noto/dog-face": 0.5, "noto/dog": 0.5}),
    "racing": (2, {"noto/racing-car": 1.0}),
    "mountain": (4, {"noto/snow-capped-mountain": 0.5, "fluent/snow-capped-mountain": 0.5}),
    "garden": (4, {"fluent/sunflower": 0.4, "noto/tulip": 0.3, "noto/bird": 0.3}),
    "forest": (4, {"noto/evergreen-tree": 0.7, "noto/deciduous-tree": 0.3}),
    "farm": (4, {"noto/cow": 0.6, "noto/tractor": 0.4}),
    "beach": (4, {"noto/palm-tree": 0.5, "noto/umbrella-on-ground": 0.5}),
    "horse": (4, {"noto/horse-face": 0.6, "fluent/horse-face": 0.4}),
    "pond": (4, {"noto/lotus": 1.0}),
}


@dataclass(frozen=True)
class Sprite:
    """Icon cropped to its bounding box: `gray` and `alpha` (h, w), original colours `rgb` (h, w, 3), in [0, 1]."""

    gray: NDArray[np.float32]
    alpha: NDArray[np.float32]
    rgb: NDArray[np.float32]


# Brightness of the darkest pixels: high enough that roofs, ears and leaves are visible on the black background, but low
# for classes with dark lines (stripes, eyes).
LIFT = {"tiger": 0.08, "kitten": 0.1, "train": 0.16, "castle": 0.52, "dog": 0.2}
DEFAULT_LIFT = 0.3


def fetch(package: str, cache: Path) -> dict:
    """Read the icon set of an npm package, {"icons": {name: {"body": svg}}, ...}; download it to `cache` if missing.

    Raises:
        RuntimeError: npm is missing or failed, or the package lacks its icons.
    """
    folder = cache / package.rsplit("@", 1)[0].replace("/", "_").strip("@")
    if not (archives := list(folder.glob("*.tgz"))):
        folder.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", package, "--pack-destination", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or error
            raise RuntimeError(f"`{' '.join(command)}` failed: {reason}") from error
        archives = list(folder.glob("*.tgz"))
    with tarfile.open(archives[0]) as archive:
        member = archive.extractfile("package/icons.json")
        if member is None:
            raise RuntimeError(f"{archives[0]} has no package/icons.json: delete the file to download it again")
        return json.load(member)


def build_sprites(path: Path, cache: Path) -> None:
    """Rasterise all sprites of `SPRITES` to `path`, (h, w, 5) uint8 by "package/icon", unless the file exists.

    Requires cairosvg, and npm unless the packages are in `cache`.
    """
    if path.exists():
        return
    sets = {name: fetch(package, cache) for name, package in PACKAGES.items()}
    arrays = {}
    for name, (_, sprites) in SPRITES.items():
        for sprite in sprites:
            package, icon = sprite.split("/")
            art = _rasterise(sets[package], icon, lift=LIFT.get(name, DEFAULT_LIFT))
            layers = np.dstack([art.gray, art.alpha, art.rgb])
            arrays[sprite] = (layers * 255).round().astype(np.uint8)
    np.savez_compressed(path, **arrays)


def load_sprites(path: Path) -> dict[str, Sprite]:
    """Load the sprites of `build_sprites`, by "package/icon"."""
    with np.load(path) as stored:
        layers = {name: stored[name].astype(np.float32) / 255 for name in stored.files}
    return {
        name: Sprite(*(np.ascontiguousarray(part) for part in (array[..., 0], array[..., 1], array[..., 2:])))
        for name, array in layers.items()
    }


def _rasterise(icons: dict, name: str, *, lift: float, size: int = 512) -> Sprite:
    import cairosvg
    from PIL import Image

    icon = icons["icons"][name]
    width, height = icon.get("width", icons.get("width", 16)), icon.get("height", icons.get("height", 16))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}">{icon["body"]}</svg>'
    )
    png = cairosvg.svg2png(svg.encode(), output_width=size, output_height=size)
    rgba = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"), dtype=np.float32) / 255
    gray, alpha = rgba[..., :3] @ np.float32([0.299, 0.587, 0.114]), rgba[..., 3]
    rows, columns = np.where(alpha.max(1) > 0.1)[0], np.where(alpha.max(0) > 0.1)[0]
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Sprite(_stretch_contrast(gray[box], alpha[box], lift), alpha[box], rgba[box][..., :3])


def _stretch_contrast(gray: NDArray[np.float32], alpha: NDArray[np.float32], lift: float) -> NDArray[np.float32]:
    """Stretch the contrast to bright shapes with dark details. Gray is loudness: 0.1 is 15 dB."""
    inside = gray[alpha > 0.9]
    low, high = np.percentile(inside, [3, 97])
    stretched = np.clip((gray - low) / max(high - low, 1e-3), 0.0, 1.0)
    median = float(np.clip(np.median(np.clip((inside - low) / max(high - low, 1e-3), 0, 1)), 0.2, 0.9))
    gamma = np.log(0.8) / np.log(median)
    return (lift + (1 - lift) * stretched**gamma).astype(np.float32)


def picture(name: str, sprites: dict[str, Sprite], rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a canvas (256, 1024) of class `name`: one sprite in each slot, near the bottom row."""
    canvas = np.zeros((HEIGHT, WIDTH), np.float32)
    for part, box in _place_sprites(name, sprites, rng):
        gray, alpha = (_cut(layer, box) for layer in (part.gray, part.alpha))
        view = canvas[box.rows, box.columns]
        view[:] = view * (1 - alpha) + gray * alpha
    return canvas


def colored_picture(
    name: str, sprites: dict[str, Sprite], rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Draw the canvas of `picture` in colour: gray (256, 1024), rgb (256, 1024, 3) and coverage (256, 1024)."""
    gray, cover = np.zeros((HEIGHT, WIDTH), np.float32), np.zeros((HEIGHT, WIDTH), np.float32)
    rgb = np.zeros((HEIGHT, WIDTH, 3), np.float32)
    for part, box in _place_sprites(name, sprites, rng):
        alpha = _cut(part.alpha, box)
        channels = [_cut(np.ascontiguousarray(part.rgb[..., i]), box) for i in range(3)]
        layers = ((gray, _cut(part.gray, box)), (rgb, np.stack(channels, -1)), (cover, np.ones_like(alpha)))
        for canvas, layer in layers:
            view, mask = canvas[box.rows, box.columns], alpha[..., None] if canvas.ndim == 3 else alpha
            view[:] = view * (1 - mask) + layer * mask
    return gray, rgb, cover


@dataclass(frozen=True)
class _Place:
    """Place of a sprite: size (columns, rows), rows and columns of the canvas, and visible columns of the sprite."""

    size: tuple[int, int]
    rows: slice
    columns: slice
    visible: slice


def _place_sprites(name: str, sprites: dict[str, Sprite], rng: np.random.Generator) -> Iterator[tuple[Sprite, _Place]]:
    slots, shares = SPRITES[name]
    names, weights = list(shares), np.array(list(shares.values()))
    step = WIDTH // slots
    for slot in range(slots):
        sprite = sprites[str(rng.choice(names, p=weights / weights.sum()))]
        rows, columns = sprite.gray.shape
        scale = min(HEIGHT / rows, 1.02 * step / columns) * rng.uniform(0.9, 0.985)
        # Flat sprites are stretched upwards, so that the picture also covers high frequencies.
        stretch = min(1.25, max(1.0, 0.88 * HEIGHT / (rows * scale)))
        size = (max(1, round(columns * scale)), min(HEIGHT, round(rows * scale * stretch)))
        left = round(slot * step + (step - size[0]) / 2 + rng.uniform(-0.03, 0.03) * step)
        top = max(HEIGHT - size[1] - int(rng.integers(0, 5)), 0)
        first, last = max(left, 0), min(left + size[0], WIDTH)
        yield sprite, _Place(size, slice(top, top + size[1]), slice(first, last), slice(first - left, last - left))


def _cut(layer: NDArray[np.float32], box: _Place) -> NDArray[np.float32]:
    from PIL import Image

    resized = Image.fromarray(layer).resize(box.size, Image.Resampling.BILINEAR)
    return np.asarray(resized).clip(0, 1)[:, box.visible]


if set(SPRITES) != set(VISUAL):
    raise RuntimeError(f"classes without sprites or words: {sorted(set(SPRITES) ^ set(VISUAL))}")
