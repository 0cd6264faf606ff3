from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image

from its.audio.spectrogram import AUFFUSION, SpectrogramFormat
from its.errors import UserError
from its.specs.media import parse_media_prompt, read_picture, read_sound


def given(path, kind="image", **more):
    return parse_media_prompt({kind: str(path)} | more, beside=Path(), source="row 1: visual")


def test_a_picture_of_the_canvas_comes_as_it_is(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    read = read_picture(given(tmp_path / "p.png"), (8, 32))
    assert torch.equal(read, torch.from_numpy(pixels).permute(2, 0, 1).float() / 255)


def test_a_picture_of_another_shape_stands_in_the_middle_on_white(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "p.png")
    read = read_picture(given(tmp_path / "p.png"), (8, 32))
    assert not read[:, :, 12:20].any()
    assert (read[:, :, :12] == 1).all()
    assert (read[:, :, 20:] == 1).all()


def test_transparent_parts_are_white_and_16_bits_are_scaled(tmp_path):
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_picture(given(tmp_path / "clear.png"), (4, 4)) == 1).all()
    Image.fromarray(np.full((4, 4), 32896, np.uint16)).save(tmp_path / "deep.png")
    torch.testing.assert_close(read_picture(given(tmp_path / "deep.png"), (4, 4)), torch.full((3, 4, 4), 128 / 255))


def test_a_photograph_is_turned_as_its_camera_was(tmp_path):
    turned = Image.new("RGB", (8, 4), "white")
    turned.putpixel((0, 0), (0, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 3  # by 180 degrees
    turned.save(tmp_path / "p.png", exif=exif)
    read = read_picture(given(tmp_path / "p.png"), (4, 8))
    assert not read[:, 3, 7].any()
    assert (read[:, 0, 0] == 1).all()


def test_words_are_the_files_name_unless_there_is_a_prompt(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "castle-with_towers.png")
    assert given(tmp_path / "castle-with_towers.png").words == "castle with towers"
    assert given(tmp_path / "castle-with_towers.png", prompt="a wall").words == "a wall"


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_sound_is_drawn_as_the_format_draws_it(tmp_path, rate):
    time = torch.arange(rate) / rate
    tone = 0.25 * torch.sin(2 * torch.pi * 1000 * time)
    soundfile.write(tmp_path / "s.wav", torch.stack([tone, tone], 1).numpy(), rate, subtype="FLOAT")
    drawn = read_sound(given(tmp_path / "s.wav", "audio"), AUFFUSION, 128)
    time = torch.arange(16_000) / 16_000
    whole = torch.zeros(1, 128 * 160)
    whole[0, :16_000] = 0.25 * torch.sin(2 * torch.pi * 1000 * time)
    expected = AUFFUSION.to_picture(AUFFUSION.log_mel(whole))[0]
    assert drawn.shape == (3, 256, 128)
    loud = expected[0, :, 10:80] > 0.5
    torch.testing.assert_close(drawn[0, :, 10:80][loud], expected[0, :, 10:80][loud], rtol=0, atol=0.02)
    assert (drawn[:, :, 110:] < 0.05).all()


def test_long_sounds_are_cut_and_stereo_stays_stereo(tmp_path):
    form = SpectrogramFormat(channels=2)
    sound = np.zeros((64_000, 2))
    sound[:, 1] = np.random.default_rng(0).standard_normal(64_000) * 0.1
    soundfile.write(tmp_path / "s.flac", sound, 16_000)
    drawn = read_sound(given(tmp_path / "s.flac", "audio"), form, 64)
    assert drawn.shape == (3, 256, 64)
    assert drawn[1].mean() < 0.1 < drawn[2].mean()  # left is green, right is blue


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    tmp_path = tmp_path_factory.mktemp("files")
    Image.new("RGB", (64, 64), "red").save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "text.wav").write_text("no sound")
    (tmp_path / "page.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    Image.new("1", (20_000, 10_000)).save(tmp_path / "bomb.png")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16_000)
    soundfile.write(tmp_path / "odd.wav", np.zeros(100), 3_999)
    return tmp_path


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"image": "nowhere.png"}, "row 1: visual: the image .*nowhere.png can't be used: No such file"),
        ({"image": "text.png"}, "text.png .* expected PNG"),
        ({"image": "page.eps"}, "page.eps .* expected PNG"),
        ({"image": "half.png"}, "half.png can't be used"),
        ({"image": "bomb.png"}, "bomb.png .* pixels: make it smaller"),
        ({"audio": "text.wav"}, "text.wav .* expected WAV"),
        ({"audio": "empty.wav"}, "empty.wav .* 0 values"),
        ({"audio": "odd.wav"}, "odd.wav .* 3999 Hz; .*resample"),
        ({"image": "."}, "Is a directory"),
        ({"image": "/dev/zero"}, "not a regular file"),
        ({"image": "a\0b"}, "null"),
        ({"audio": "x" * 3000}, "too long"),
        ({"audio": "~nobody/x"}, "No such file"),
        ({"image": "a.png", "audio": "b.wav"}, "expected {image: FILE} or {audio: FILE}"),
        ({"prompt": "a castle"}, "expected {image: FILE} or {audio: FILE}"),
        ({"image": 3}, "expected {image: FILE}"),
        ({"picture": "a.png"}, "unknown key picture; expected image or audio"),
    ],
)
def test_invalid_files_are_one_message(files, entry, message):
    with pytest.raises(UserError, match=message):
        parse_media_prompt(entry, beside=files, source="row 1: visual")
