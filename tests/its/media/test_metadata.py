import json
import struct
import wave

import av
import numpy as np
import pytest
import soundfile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from its.errors import UserError
from its.media.encode import write_png, write_wav
from its.media.metadata import LONGEST, read_metadata, text_of
from its.media.video import write_video

RECORD = {"id": "castle-1", "config": {"model": {}, "data": {"prompts": [{"visual": "城 <b> \0"}]}}, "weights": {}}
PIXELS = np.zeros((8, 8), np.uint8)


def write(path, text):
    """Write a file of any kind with a text as metadata."""
    if path.suffix == ".png":
        write_png(path, PIXELS, text)
    elif path.suffix == ".wav":
        write_wav(path, np.zeros(1001, np.int16), 16_000, text)
    else:
        write_video(path, [PIXELS], np.zeros(1600, np.int16), 16_000, comment=text)


@pytest.mark.parametrize("kind", [".png", ".wav", ".mp4"])
def test_written_files_can_be_read(tmp_path, kind):
    write(tmp_path / f"x{kind}", text_of(RECORD))
    found = read_metadata(tmp_path / f"x{kind}")
    assert {key: found[key] for key in RECORD} == RECORD


def test_a_record_is_read_too(tmp_path):
    (tmp_path / "sample.json").write_text(json.dumps(RECORD | {"status": "ok"}))
    assert read_metadata(tmp_path / "sample.json")["config"] == RECORD["config"]


def test_a_comment_leaves_the_sound_as_it_was(tmp_path):
    pcm = np.random.default_rng(0).integers(-9, 9, 1001, dtype=np.int16)
    for channels in (pcm, pcm[:-1].reshape(-1, 2)):
        write_wav(tmp_path / "x.wav", channels, 16_000, "x" * 10_001)
        again, rate = soundfile.read(tmp_path / "x.wav", dtype="int16")
        assert rate == 16_000
        assert (again == channels).all()
        content = (tmp_path / "x.wav").read_bytes()
        assert struct.unpack("<I", content[4:8])[0] == len(content) - 8


def test_decoders_that_read_little_of_a_wav_do_not_play_its_comment(tmp_path):
    pcm = np.random.default_rng(0).integers(-9, 9, 1001, dtype="<i2")
    write_wav(tmp_path / "x.wav", pcm, 16_000, "x" * 10_001)
    content = (tmp_path / "x.wav").read_bytes()
    assert content[36:40] == b"data"  # right after the shortest header, where simple decoders expect it
    size = struct.unpack("<I", content[40:44])[0]
    assert content[44 : 44 + size] == pcm.tobytes()
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert file.readframes(file.getnframes() + 99) == pcm.tobytes()
    with av.open(str(tmp_path / "x.wav")) as container:  # FFmpeg
        assert np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)]).tobytes() == pcm.tobytes()


@pytest.mark.parametrize("kind", [".png", ".wav", ".mp4"])
def test_files_without_it_say_so(tmp_path, kind):
    write(tmp_path / f"x{kind}", "a comment of somebody")
    with pytest.raises(UserError, match="has no metadata|is damaged"):
        read_metadata(tmp_path / f"x{kind}")


def test_a_picture_of_somebody(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "x.png")
    with pytest.raises(UserError, match="x.png has no metadata"):
        read_metadata(tmp_path / "x.png")


@pytest.mark.parametrize("kind", [".png", ".wav", ".mp4", ".json"])
@pytest.mark.parametrize("content", [b"", b"RIFF", b"no such thing" * 100, b"RIFF\0\0\0\0WAVELIST\xff\xff\xff\xff"])
def test_damaged_files(tmp_path, kind, content):
    (tmp_path / f"x{kind}").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.\w+ (can't be read|has no metadata)"):
        read_metadata(tmp_path / f"x{kind}")


@pytest.mark.parametrize(
    "text",
    ['{"its": 1', '{"its": 1, "id": "x"}', '{"its":' + "[" * 100_000],
)
def test_metadata_that_is_not_ours(tmp_path, text):
    write_png(tmp_path / "x.png", PIXELS, text)
    with pytest.raises(UserError, match="is damaged"):
        read_metadata(tmp_path / "x.png")


def test_metadata_that_is_too_large(tmp_path):
    text = json.dumps({"its": 1, **RECORD, "more": "x" * LONGEST})
    write_png(tmp_path / "x.png", PIXELS, text)
    with pytest.raises(UserError, match=f"expected {LONGEST:,} at most"):
        read_metadata(tmp_path / "x.png")
    assert text_of(RECORD | {"settings": "x" * LONGEST}) is None


def test_a_text_that_unpacks_to_very_much(tmp_path):
    info = PngInfo()
    info.add_text("its", "x" * 80_000_000, zip=True)
    Image.fromarray(PIXELS).save(tmp_path / "x.png", pnginfo=info)
    with pytest.raises(UserError, match="can't be read as PNG|has no metadata"):
        read_metadata(tmp_path / "x.png")


def test_other_files(tmp_path):
    with pytest.raises(UserError, match="ending in .png, .wav, .mp4, .json"):
        read_metadata(tmp_path / "x.gif")
    with pytest.raises(UserError, match="does not exist"):
        read_metadata(tmp_path / "x.png")
