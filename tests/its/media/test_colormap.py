import numpy as np

from its.media.colormap import MAGMA, apply_magma


def test_the_table_is_magma():
    """Check values of the published map, and that its lightness increases monotonically."""
    published = {0: "000004", 64: "51127c", 128: "b73779", 192: "fc8961", 255: "fcfdbf"}
    assert {level: bytes(MAGMA[level]).hex() for level in published} == published
    assert len({bytes(color) for color in MAGMA}) == 256
    luminance = MAGMA @ np.array([0.2126, 0.7152, 0.0722])
    assert np.diff(luminance).min() > -0.5  # rounding to 8 bit


def test_every_level_gets_its_colour():
    gray = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (apply_magma(gray).reshape(256, 3) == MAGMA).all()
    assert apply_magma(gray).dtype == np.uint8
