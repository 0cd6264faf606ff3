"""Prompts as lines of text under a picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

BACKGROUND, BRIGHT, DIM = (16, 16, 16), (235, 235, 235), (150, 150, 150)

LINES = 3
"""Lines that one caption may take; what is longer ends in an ellipsis."""

FONTS = (
    "DejaVuSans.ttf",
    "LiberationSans-Regular.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "Arial.ttf",
    "arialuni.ttf",
    "arial.ttf",
    "msyh.ttc",
    "PingFang.ttc",
)
"""Of the system, where there are any, for what Pillow's own font has no letters for: it knows little beyond ASCII."""


def strip(captions: Sequence[str], note: str, width: int) -> Image.Image:
    """Captions, and a dimmer note under them, as a picture of this width in pixels and an even height."""
    from PIL import Image, ImageDraw

    size = max(13, min(20, width // 50))
    plain = [_printable(text) for text in captions]
    font = _font_for("".join((*plain, note)), size)
    lines = [(line, BRIGHT) for text in plain for line in wrapped(text, font, width - size)]
    lines += [(line, DIM) for line in wrapped(_printable(note), font, width - size)]
    height = round(1.35 * size)
    total = len(lines) * height + size
    picture = Image.new("RGB", (width, total + total % 2), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for number, (line, color) in enumerate(lines):
        draw.text((size // 2, size // 2 + number * height), line, fill=color, font=font)
    return picture


def wrapped(text: str, font: FreeTypeFont, width: int) -> list[str]:
    """Text in lines of this width in pixels, broken at spaces, or anywhere in words that are longer than a line."""
    lines: list[str] = []
    rest = text.strip()
    while rest:
        fits = _fitting(rest, font, width)
        if fits < len(rest) and len(lines) == LINES - 1:
            return [*lines, rest[: _fitting(rest, font, width - int(font.getlength("...")))].rstrip() + "..."]
        cut = fits if fits == len(rest) or rest[fits] == " " else rest.rfind(" ", 0, fits) + 1 or fits
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return lines


def _fitting(text: str, font: FreeTypeFont, width: int) -> int:
    """How many of the first characters fit into a line; at least one, and of very long texts some at most."""
    low, high = 1, min(len(text), width)  # no font here has letters of less than a pixel
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    return low


def _printable(text: str) -> str:
    """Letters in their composed form, and no line breaks or other characters that steer."""
    composed = unicodedata.normalize("NFC", text)
    return " ".join("".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in composed).split())


def _font_for(text: str, size: int) -> FreeTypeFont:
    """Pillow's own font if it has all letters, else the font of the system that lacks the fewest."""
    letters = {c for c in text if c != " "}
    return min(_fonts(size), key=lambda font: sum(_lacks(font, letter) for letter in letters))


@lru_cache
def _fonts(size: int) -> tuple[FreeTypeFont, ...]:
    from PIL import ImageFont

    found: list[FreeTypeFont] = [ImageFont.load_default(size)]  # type: ignore[list-item]  # with FreeType, as in all wheels
    for name in FONTS:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:
            continue
    return tuple(found)


@lru_cache(maxsize=4096)
def _lacks(font: FreeTypeFont, letter: str) -> bool:
    """Whether a font shows this letter as it shows any that it doesn't have."""
    return font.getmask(letter).getbbox() is not None and bytes(font.getmask(letter)) == bytes(font.getmask("\uffff"))
