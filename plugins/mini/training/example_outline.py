"""Draw an example of an outline for the pack: `python -m its_plugins.mini.training.example_outline --out FILE.png`.

White lines on black: a castle with three towers, a hill beside it, and a pennant on each tower. 256 x 992 pixels, like
a spectrogram.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image, ImageDraw

SIZE = (992, 256)
BASE = 246
"""Row on which everything stands."""


def draw() -> Image.Image:
    """Draw the outline, gray (256, 992)."""
    image = Image.new("L", SIZE, 0)
    pen = ImageDraw.Draw(image)
    line = {"fill": 255, "width": 3, "joint": "curve"}
    skyline: list[tuple[int, int]] = [(150, BASE)]
    for left, width, eaves, peak in ((150, 110, 120, 60), (330, 130, 95, 25), (530, 110, 120, 60)):
        skyline += [(left, eaves), (left - 14, eaves), (left + width // 2, peak), (left + width + 14, eaves)]
        skyline += [(left + width, eaves)]
        pole = left + width // 2
        pen.line([(pole, peak), (pole, peak - 22), (pole + 22, peak - 15), (pole, peak - 8)], **line)
        if left < 530:  # the wall to the next tower, with battlements
            wall, end = 165, 330 if left == 150 else 530
            step = (end - left - width) / 5
            for tooth in range(5):
                at = round(left + width + tooth * step)
                skyline += [(at, wall - 14 * (tooth % 2)), (round(at + step), wall - 14 * (tooth % 2))]
    skyline += [(640, BASE), (150, BASE)]
    pen.line(skyline, **line)
    pen.arc((365, 170, 425, 270), 180, 360, fill=255, width=3)  # gate
    pen.line([(365, 220), (365, BASE)], **line)
    pen.line([(425, 220), (425, BASE)], **line)
    pen.arc((690, 130, 970, 362), 180, 360, fill=255, width=3)  # hill
    pen.line([(690, BASE), (970, BASE)], **line)
    return image


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Draw an example of an outline: a castle with three towers.")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw().save(options.out, optimize=True)


if __name__ == "__main__":
    main()
