"""Pictures of all modes, in the two functions that read them."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from its.media.decode import open_picture
from its.media.pictures import read_picture
from its.specs import media

SIZE = (8, 4)


def gray(values, dtype):
    return Image.fromarray(np.full(SIZE[::-1], values, dtype))


KINDS = {
    "sixteen.png": (gray(32896, np.uint16), 128 / 255),
    "sixteen.tiff": (gray(32896, np.uint16), 128 / 255),
    "thirty_two.tiff": (gray(32896, np.int32), 128 / 255),
    "float.tiff": (gray(0.5, np.float32), 0.5),
    "palette.png": (Image.new("L", SIZE, 128).convert("P"), 128 / 255),
    "palette.gif": (Image.new("L", SIZE, 128).convert("P"), 128 / 255),
    "cmyk.tiff": (Image.new("RGB", SIZE, (128, 128, 128)).convert("CMYK"), 128 / 255),
    "clear.png": (Image.new("RGBA", SIZE, (9, 9, 9, 0)), 1.0),
    "clear_gray.png": (Image.new("LA", SIZE, (9, 0)), 1.0),
    "bit.png": (Image.new("1", SIZE, 1), 1.0),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_mode_has_one_result_in_all_commands(name, tmp_path):
    picture, expected = KINDS[name]
    picture.save(tmp_path / name)
    wanted = torch.full((3, *SIZE[::-1]), expected)
    torch.testing.assert_close(read_picture(tmp_path / name, background=1)[0], wanted, rtol=0, atol=1e-6)
    given = media.parse_media_prompt({"image": name}, beside=tmp_path, source="row 1")
    torch.testing.assert_close(media.read_picture(given, SIZE[::-1]), wanted, rtol=0, atol=0.51 / 255)


def test_values_of_an_unknown_range_are_scaled_to_the_whole(tmp_path):
    for name, values in (("f.tiff", np.float32([[-1, 3], [1, np.nan]])), ("i.tiff", np.int32([[-1, 99999], [0, 0]]))):
        Image.fromarray(values).save(tmp_path / name)
        found = read_picture(tmp_path / name, background=0)[0, 0]
        assert (found.min(), found.max()) == (0, 1)
        assert found.isfinite().all()


@pytest.mark.parametrize("block", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01\x12", b"Exif\0\0xxxxxxxxxxxx"])
def test_a_damaged_exif_block_is_ignored(block, tmp_path):
    Image.new("L", SIZE, 255).save(tmp_path / "x.jpg", exif=block)
    assert open_picture(tmp_path / "x.jpg").size == SIZE


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_pictures_stand_upright(orientation, ending, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.arange(32, dtype=np.uint8).reshape(4, 8)).save(tmp_path / f"x.{ending}", exif=exif)
    content = (tmp_path / f"x.{ending}").read_bytes()  # Pillow memory-maps rotated TIFF files wrongly
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    assert (np.asarray(open_picture(tmp_path / f"x.{ending}")) == expected).all()
