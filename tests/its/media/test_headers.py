import struct
import time

import numpy as np
import pytest
from PIL import Image

from its.errors import UserError
from its.media.encode import write_png, write_wav
from its.media.headers import check_content, png_size, wav_seconds
from its.media.metadata import read_metadata


@pytest.fixture
def picture(tmp_path):
    write_png(tmp_path / "x.png", np.zeros((8, 16), np.uint8))
    return tmp_path / "x.png"


@pytest.fixture
def sound(tmp_path):
    write_wav(tmp_path / "x.wav", np.zeros((800, 2), np.int16), 16_000)
    return tmp_path / "x.wav"


def test_sizes(picture, sound):
    assert png_size(picture) == (16, 8)
    assert wav_seconds(sound) == 0.05


def test_headers_that_claim_too_much(picture, sound):
    content = picture.read_bytes()
    picture.write_bytes(content[:16] + struct.pack(">II", 60_000, 60_000) + content[24:])
    with pytest.raises(ValueError, match="60000 x 60000"):
        png_size(picture)
    content = sound.read_bytes()
    sound.write_bytes(content[:-1])
    with pytest.raises(ValueError, match="truncated"):
        wav_seconds(sound)
    sound.write_bytes(content[:24])  # within the description of the format
    with pytest.raises(ValueError, match="0 samples"):
        wav_seconds(sound)
    sound.write_bytes(content[:24] + struct.pack("<I", 1) + content[28:])  # 800 seconds, by its header
    with pytest.raises(ValueError, match="at 1 Hz"):
        wav_seconds(sound)


def test_a_sound_of_very_many_chunks_is_refused_soon(sound, tmp_path):
    with sound.open("r+b") as file:
        file.seek(12)
        file.truncate()
        file.truncate(2**30)  # zeros: empty chunks without a name
    for read in (wav_seconds, read_metadata):
        begin = time.process_time()
        with pytest.raises((ValueError, UserError), match="more than 1000 chunks"):
            read(sound)
        assert time.process_time() - begin < 1


def test_floats_are_no_pcm(sound):
    content = sound.read_bytes()
    sound.write_bytes(content[:20] + struct.pack("<H", 3) + content[22:])
    with pytest.raises(ValueError, match="PCM"):
        wav_seconds(sound)


def test_the_content_of_files_matches_their_extensions(picture, sound, tmp_path):
    check_content(picture)
    check_content(sound)
    (tmp_path / "x.mp4").write_bytes(b"\0\0\0\x20ftypisom")
    check_content(tmp_path / "x.mp4")
    Image.new("L", (4, 4)).save(tmp_path / "gif.png", format="GIF")
    (tmp_path / "key.wav").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    (tmp_path / "key.mp4").write_text("-----BEGIN OPENSSH PRIVATE KEY-----")
    (tmp_path / "link.png").symlink_to(picture)
    (tmp_path / "x.txt").touch()
    for name in ("gif.png", "key.wav", "key.mp4", "link.png", "x.txt"):
        with pytest.raises((OSError, ValueError), match="not |link"):
            check_content(tmp_path / name)
