"""Draw captions as lines of text below a picture."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageFont import FreeTypeFont

BACKGROUND, BRIGHT, DIM = (16, 16, 16), (235, 235, 235), (150, 150, 150)

LINES = 3
"""Maximum number of lines of a caption; longer ones end in an ellipsis."""

FONTS = (
    "DejaVuSans.ttf", "LiberationSans-Regular.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf", "Arial.ttf", "arialuni.ttf", "arial.ttf", "msyh.ttc", "PingFang.ttc",
)  # fmt: skip
"""System fonts to try for characters that Pillow's own font lacks: it has few beyond ASCII."""


def draw_captions(captions: Sequence[str], note: str, width: int) -> Image.Image:
    """Draw captions, and a dimmer note below them, in a picture of this width in pixels and an even height."""
    from PIL import Image, ImageDraw

    size = max(13, min(20, width // 50))
    texts = [_printable(text) for text in captions]
    font = _font_for("".join((*texts, note)), size)
    lines = [(line, BRIGHT) for text in texts for line in wrap_lines(text, font, width - size)]
    lines += [(line, DIM) for line in wrap_lines(_printable(note), font, width - size)]
    height = round(1.35 * size)
    total = len(lines) * height + size
    picture = Image.new("RGB", (width, total + total % 2), BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for number, (line, color) in enumerate(lines):
        draw.text((size // 2, size // 2 + number * height), line, fill=color, font=font)
    return picture


def wrap_lines(text: str, font: FreeTypeFont, width: int) -> list[str]:
    """Break a text into lines of at most this width in pixels: at spaces, or inside words longer than a line."""
    lines: list[str] = []
    rest = text.strip()
    while rest:
        count = _count_fitting(rest, font, width)
        if count < len(rest) and len(lines) == LINES - 1:
            count = _count_fitting(rest, font, width - int(font.getlength("...")))
            return [*lines, rest[:count].rstrip() + "..."]
        cut = count if count == len(rest) or rest[count] == " " else rest.rfind(" ", 0, count) + 1 or count
        lines.append(rest[:cut].rstrip())
        rest = rest[cut:].lstrip()
    return lines


def _count_fitting(text: str, font: FreeTypeFont, width: int) -> int:
    """Return the number of characters that fit into a line, at least 1."""
    low, high = 1, min(len(text), width)  # every character is at least a pixel wide
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if font.getlength(text[:middle]) <= width else (low, middle - 1)
    return low


def _printable(text: str) -> str:
    """Compose characters (Unicode NFC), and replace line breaks and control characters by spaces."""
    composed = unicodedata.normalize("NFC", text)
    return " ".join("".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in composed).split())


def _font_for(text: str, size: int) -> FreeTypeFont:
    """Return the font that lacks the fewest characters of a text: Pillow's own if it has all, or a system font."""
    letters = {c for c in text if c != " "}
    return min(_fonts(size), key=lambda font: sum(_lacks(font, letter) for letter in letters))


@lru_cache
def _fonts(size: int) -> tuple[FreeTypeFont, ...]:
    from PIL import ImageFont

    fonts: list[FreeTypeFont] = [ImageFont.load_default(size)]  # type: ignore[list-item]  # with FreeType, as in all wheels
    for name in FONTS:
        with suppress(OSError):
            fonts.append(ImageFont.truetype(name, size))
    return tuple(fonts)


@lru_cache(maxsize=4096)
def _lacks(font: FreeTypeFont, letter: str) -> bool:
    """Return whether a font lacks a letter, that is, draws the glyph of missing characters."""
    return font.getmask(letter).getbbox() is not None and bytes(font.getmask(letter)) == bytes(font.getmask("\uffff"))
