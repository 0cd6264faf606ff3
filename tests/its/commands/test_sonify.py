"""`its sonify` and `its spectrogram`: there, back, and what can't be."""

import numpy as np
import pytest
import soundfile
from PIL import Image

from its.audio.spectrogram import AUFFUSION
from its.cli import main
from its.engine.sonify import draw
from its.errors import UserError
from its.media.pictures import read_picture

GRAY = np.linspace(0, 255, 24 * 32).reshape(24, 32).astype(np.uint8)


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def picture(name="x.png", *, size=(96, 256)):
    """Soft spots, as loud as music, on silence."""
    columns, rows = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]))
    spots = [(0.25, 0.3), (0.5, 0.7), (0.8, 0.5)]
    gray = sum(np.exp(-(((columns - x) / 0.06) ** 2) - ((rows - y) / 0.06) ** 2) for x, y in spots)
    Image.fromarray((150 * gray.clip(0, 1) + 20).astype(np.uint8)).save(name)
    return np.asarray(Image.open(name)) / 255


def test_conversion_there_and_back_keeps_the_picture():
    before = picture()
    assert main(["sonify", "x.png"]) == 0
    assert soundfile.info("x.wav").frames == 96 * 160
    assert main(["spectrogram", "x.wav"]) == 0
    after = np.asarray(Image.open("x.spectrogram.png")) / 255
    assert after.shape == before.shape
    loud = before > 0.3
    assert abs(after - before)[loud].mean() < 0.02
    shifted = [np.corrcoef(np.roll(after, n, 1).ravel(), before.ravel())[0, 1] for n in (-2, -1, 0, 1, 2)]
    assert np.argmax(shifted) == 2  # columns are where they were
    assert shifted[2] > 0.95  # Griffin-Lim leaks into silence


def test_a_tone_is_drawn_where_it_sounds():
    time = np.arange(48_000) / 48_000
    left, right = np.sin(2 * np.pi * 1000 * time), np.zeros(48_000)
    soundfile.write("tone.flac", np.stack([left, right], 1), 48_000)
    assert main(["spectrogram", "tone.flac", "--f_max", "4000"]) == 0
    drawn = np.asarray(Image.open("tone.spectrogram.png"))
    assert drawn.shape == (256, 100)
    row = int(drawn[:, 50].argmax())
    mel = (1 - (row + 0.5) / 256) * (15 + 27 * np.log(4) / np.log(6.4))  # Slaney's scale: 1 kHz is 15 mel
    assert mel == pytest.approx(15, abs=0.3)


@pytest.mark.parametrize(("arguments", "frames"), [([], 341), (["--duration", "2.5"], 250)])
def test_length(arguments, frames):
    Image.fromarray(GRAY).save("x.png")
    assert main(["sonify", "x.png", *arguments, "--iterations", "1"]) == 0
    assert soundfile.info("x.wav").frames == frames * 160


def test_video_and_its_caption():
    picture()
    assert main(["sonify", "x.png", "--video", "--iterations", "1", "--invert", "--contrast", "2"]) == 0
    import av

    with av.open("x.mp4") as container:
        assert container.streams.video[0].frames == 29


def test_riffusion_is_the_negative_with_more_rows():
    picture(size=(64, 512))
    assert main(["sonify", "x.png", "--format", "Riffusion", "--iterations", "1"]) == 0
    assert soundfile.info("x.wav").samplerate == 44_100


def kinds():
    rgb = np.stack([GRAY] * 3, -1)
    alpha = np.dstack([rgb, np.full(GRAY.shape, 255, np.uint8)])
    yield "rgb.png", Image.fromarray(rgb)
    yield "cmyk.tiff", Image.fromarray(rgb).convert("CMYK")
    yield "alpha.png", Image.fromarray(alpha)
    yield "palette.png", Image.fromarray(GRAY).convert("P")
    yield "sixteen.png", Image.fromarray(GRAY.astype(np.uint16) * 257)
    yield "float.tiff", Image.fromarray(GRAY.astype(np.float32) / 255)
    yield "gray_alpha.png", Image.fromarray(GRAY).convert("LA")


@pytest.mark.parametrize("kind", list(kinds()), ids=lambda kind: kind[0])
def test_the_same_picture_in_any_kind(kind):
    name, image = kind
    image.save(name)
    found = read_picture(name, background=0)
    assert found.shape == (1, 3, 24, 32)
    assert abs(found.mean(1)[0].numpy() * 255 - GRAY).max() <= 1.5


def test_transparent_pixels_become_the_background():
    Image.new("RGBA", (4, 4), (255, 0, 0, 0)).save("x.png")
    assert read_picture("x.png", background=0).max() == 0
    assert read_picture("x.png", background=1).min() == 1


@pytest.mark.parametrize("options", [[], ["--invert"], ["--format", "Riffusion"]])
def test_transparent_pixels_are_silent(options):
    Image.new("RGBA", (16, 64), (120, 120, 120, 0)).save("x.png")
    assert main(["sonify", "x.png", "--iterations", "2", *options]) == 0
    assert abs(soundfile.read("x.wav")[0]).max() < 2e-2


def test_an_animation_gives_its_first_frame_and_a_photo_stands_upright():
    first, second = Image.new("L", (4, 6), 255), Image.new("L", (4, 6), 0)
    first.save("x.gif", save_all=True, append_images=[second])
    assert read_picture("x.gif", background=0).min() == 1
    exif = Image.Exif()
    exif[0x0112] = 6
    first.save("x.jpg", exif=exif)
    assert read_picture("x.jpg", background=0).shape == (1, 3, 4, 6)


def test_a_picture_bomb(monkeypatch, capsys, tmp_path):
    Image.new("1", (20_000, 10_000)).save("bomb.png")
    before = sorted(tmp_path.iterdir())
    assert main(["sonify", "bomb.png"]) == 2
    err = capsys.readouterr().err
    assert "bomb.png" in err
    assert "pixels: make it smaller" in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_files_that_are_neither_picture_nor_sound(content, capsys, tmp_path):
    for name, command in (("x.png", "sonify"), ("x.wav", "spectrogram")):
        (tmp_path / name).write_bytes(content)
        assert main([command, name]) == 2
        assert f"its: {name} " in (err := capsys.readouterr().err)
        assert err.count("\n") == 1
    assert {p.name for p in tmp_path.iterdir()} == {"x.png", "x.wav"}


def test_a_truncated_picture(capsys, tmp_path):
    picture()
    content = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(content[: len(content) // 2])
    assert main(["sonify", "x.png"]) == 2
    assert "x.png can't be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sonify", "none.png"], "the file none.png does not exist"),
        (["sonify", "x.png", "--duration", "0"], "--duration is 0 s; expected more than 0 and at most 600"),
        (["sonify", "x.png", "--duration", "nan"], "--duration is nan; expected a number"),
        (["sonify", "x.png", "--contrast", "0"], "--contrast is 0; expected more than 0"),
        (["sonify", "x.png", "--f_max", "9000"], "<= 8000 Hz, half of Auffusion's sample rate"),
        (["sonify", "x.png", "--f_min", "500", "--f_max", "100"], "--f_min is 500 Hz and --f_max 100 Hz"),
        (["sonify", "x.png", "--format", "Rifusion"], "Did you mean Riffusion?"),
        (["sonify", "x.png", "--output", "x.mp3"], "--output is x.mp3; expected a name ending in .wav"),
        (["sonify", "x.png", "--output", "no/x.wav"], "the folder no for x.wav does not exist"),
        (["sonify", "x.png", "--output", "old.wav"], "old.wav exists already; give another --output, or --overwrite"),
        (["sonify", "wide.png"], "the length by the picture's proportions is 6144 s"),
        (["spectrogram", "none.wav"], "the file none.wav does not exist"),
        (["spectrogram", "old.wav", "--start", "9"], "--start is 9 s; old.wav lasts 0.10 s"),
        (["spectrogram", "x.png"], "x.png can't be read: it is not a readable sound"),
        (["spectrogram", "empty.wav"], "empty.wav can't be read: it has 0 values"),
    ],
)
def test_wrong_input_is_one_message(arguments, message, capsys, tmp_path):
    picture()
    Image.new("L", (2400, 1)).save("wide.png")
    soundfile.write("old.wav", np.zeros(1600), 16_000)
    soundfile.write("empty.wav", np.zeros(0), 16_000)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert main(arguments) == 2
    assert message in (err := capsys.readouterr().err)
    assert err.count("\n") == 1
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_long_sound_is_cut_with_a_message(capsys):
    soundfile.write("long.wav", np.zeros(61 * 8000), 8000)
    assert main(["spectrogram", "long.wav"]) == 0
    assert "lasts 61 s: drawing 60" in capsys.readouterr().err
    assert Image.open("long.spectrogram.png").size == (6000, 256)
    assert main(["spectrogram", "long.wav", "--start", "60.5", "--duration", "0.25", "--overwrite"]) == 0
    assert Image.open("long.spectrogram.png").size == (25, 256)


def test_damaged_sound():
    import torch

    soundfile.write("x.wav", np.array([0.0, np.nan] * 800), 16_000, subtype="FLOAT")
    assert main(["spectrogram", "x.wav"]) == 2
    assert draw(torch.zeros(3, 10), 16_000, AUFFUSION).shape == (1, 1, 256, 12)


def test_a_photo_is_never_replaced_by_the_way_back(tmp_path):
    before = picture()
    assert main(["sonify", "x.png", "--iterations", "1"]) == 0
    assert main(["spectrogram", "x.wav"]) == 0
    assert (np.asarray(Image.open("x.png")) / 255 == before).all()


def test_an_unreadable_picture_is_a_user_error():
    with pytest.raises(UserError, match="the file no.png does not exist"):
        read_picture("no.png", background=0)
