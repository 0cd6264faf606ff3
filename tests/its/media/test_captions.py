import numpy as np
import pytest
from PIL import ImageFont

from its.media.captions import LINES, draw_captions, wrap_lines

FONT = ImageFont.load_default(16)


def test_lines_fit_and_words_stay_whole():
    text = "a painting of castle towers, grayscale, with many a word"
    lines = wrap_lines(text, FONT, 200)
    assert len(lines) == LINES
    assert all(FONT.getlength(line) <= 200 for line in lines)
    assert " ".join(lines).removesuffix("...") in text


def test_a_word_that_is_longer_than_a_line_is_broken():
    lines = wrap_lines("x" * 1000, FONT, 200)
    assert len(lines) == LINES
    assert lines[-1].endswith("...")
    assert all(FONT.getlength(line) <= 200 for line in lines)


@pytest.mark.parametrize("text", ["", " ", "a\nb\tc\0d\u202e", "城 колокол ☃ 🔔", "é" * 50, "x" * 100_000])
def test_any_prompt_can_be_drawn(text):
    picture = draw_captions([text], "seed 1", 480)
    assert picture.width == 480
    assert picture.height % 2 == 0
    assert np.asarray(picture).max() > 100


def test_messages_are_visible():
    one, other = (np.asarray(draw_captions([text], "", 480)) for text in ("castle", "cattle"))
    assert one.shape == other.shape
    assert (one != other).any()
