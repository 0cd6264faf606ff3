"""Pictures and sounds of unknown origin are opened with the same checks everywhere."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from its.errors import UserError
from its.media import decode
from its.media.decode import naming, open_picture, open_sound


def test_a_file_and_its_content_open_alike(tmp_path):
    Image.new("RGB", (4, 3), "red").save(tmp_path / "x.png")
    soundfile.write(tmp_path / "x.wav", np.zeros(100), 16_000)
    for picture in (tmp_path / "x.png", str(tmp_path / "x.png"), (tmp_path / "x.png").read_bytes()):
        assert open_picture(picture).size == (4, 3)
    for sound in (tmp_path / "x.wav", str(tmp_path / "x.wav"), (tmp_path / "x.wav").read_bytes()):
        with open_sound(sound) as file:
            assert (file.frames, file.samplerate) == (100, 16_000)


def test_a_format_that_is_not_expected_is_refused(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "x.gif")
    assert open_picture(tmp_path / "x.gif").size == (4, 3)
    with pytest.raises(ValueError, match="PNG"):
        open_picture(tmp_path / "x.gif", formats=["PNG"])


@pytest.mark.parametrize("content", [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"", b"\x89PNG\r\n\x1a\n"])
def test_files_that_are_not_pictures_are_refused(content):
    with pytest.raises(ValueError, match="picture"):
        open_picture(content)


def test_sizes_are_checked_before_anything_is_decoded(tmp_path, monkeypatch, recwarn):
    Image.new("1", (10_000, 9_500)).save(tmp_path / "large.png")
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="10000 x 9500"):
        open_picture(tmp_path / "large.png")
    soundfile.write(tmp_path / "x.wav", np.zeros((100, 2)), 16_000)
    monkeypatch.setattr(decode, "MOST_FRAMES", 199)
    with pytest.raises(ValueError, match="200"):
        open_sound(tmp_path / "x.wav")
    assert not recwarn.list


@pytest.mark.parametrize("rate", [100, 500_000])
def test_extreme_sample_rates_are_refused(rate, tmp_path):
    soundfile.write(tmp_path / "x.wav", np.zeros(100), rate)
    with pytest.raises(ValueError, match=str(rate)):
        open_sound(tmp_path / "x.wav")


def test_errors_name_the_file_and_the_remedy(tmp_path):
    for path, reason in ((tmp_path / "no.png", "does not exist"), (tmp_path, "directory")):
        with pytest.raises(UserError, match=f"(?i){reason}.*; make it again"), naming(path, "make it again"):
            open_picture(path)
    with pytest.raises(UserError, match="x.wav can't be read: it is not a readable sound"), naming(tmp_path / "x.wav"):
        open_sound(b"no sound")


@pytest.mark.parametrize("name", ["x.raw", "x.RAW", "x.xyz", "x"])
def test_sounds_without_a_header_are_one_message_and_unknown_endings_do_not_matter(name, tmp_path):
    (tmp_path / name).write_bytes(b"no header" * 99)
    with pytest.raises(ValueError, match="not a readable sound; expected WAV"):
        open_sound(tmp_path / name)
    soundfile.write(tmp_path / "x.wav", np.zeros(100), 44_101)
    (tmp_path / "x.wav").rename(tmp_path / "other.xyz")
    with open_sound(tmp_path / "other.xyz") as file:
        assert file.samplerate == 44_101
