"""Decode written videos, as a player does."""

import multiprocessing
import os
import resource

import av
import numpy as np
import pytest

from its.media.atomic import NotWritten
from its.media.video import AAC_RATES, FPS, line_column, write_video
from its.runs.stored_video import write_sample_video

SECONDS = 3.1
CLICK = 1.7


def write(path, *, rate=16_000, channels=1, size=(64, 640), **options):
    """Write a video of gray noise with a click in silence."""
    sound = np.zeros((round(SECONDS * rate), channels), np.int16)
    sound[round(CLICK * rate) : round((CLICK + 0.002) * rate)] = 20_000
    picture = np.random.default_rng(0).integers(60, 180, size, dtype=np.uint8)
    write_video(path, [picture], sound[:, 0] if channels == 1 else sound, rate, **options)
    return picture


def frames(path):
    """Return the time in seconds and the luma (h, w) of every frame."""
    with av.open(str(path)) as container:
        return [(float(f.time), f.to_ndarray(format="gray")) for f in container.decode(video=0)]


def sound(path):
    """Return the sound (n,) and its rate, as a player that applies the edit list plays it."""
    with av.open(str(path)) as container:
        pieces = [(float(f.time), f.rate, f.to_ndarray()) for f in container.decode(audio=0)]
    assert pieces[0][0] == pytest.approx(0, abs=1e-6)
    return np.concatenate([piece.mean(0) for _, _, piece in pieces]), pieces[0][1]


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8_000, 1), (96_000, 1)])
def test_line_and_sound_are_in_step_to_one_frame(tmp_path, rate, channels):
    picture = write(tmp_path / "v.mp4", rate=rate, channels=channels)
    heard, played_rate = sound(tmp_path / "v.mp4")
    assert played_rate in AAC_RATES
    click = np.argmax(np.abs(heard) > np.abs(heard).max() / 3) / played_rate
    shown = frames(tmp_path / "v.mp4")
    assert len(shown) == int(np.ceil(SECONDS * FPS))
    at_click = [time for time, luma in shown if _line(luma, picture) / picture.shape[1] * SECONDS <= CLICK][-1]
    assert abs(click - CLICK) < 0.5 / FPS
    assert abs(at_click - click) <= 1 / FPS
    for time, luma in shown:
        assert abs(_line(luma, picture) / picture.shape[1] * SECONDS - time) < 1 / FPS


def _line(luma, picture):
    """Return the brightest column, which is the line."""
    return int(np.argmax(luma[: picture.shape[0]].mean(0)))


def test_the_video_has_codecs_of_browsers(tmp_path):
    write(tmp_path / "v.mp4", comment='{"its": 1}')
    with av.open(str(tmp_path / "v.mp4")) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt, audio.codec_context.name) == (
            "h264",
            "yuv420p",
            "aac",
        )
        assert video.average_rate == FPS
        assert container.metadata["comment"] == '{"its": 1}'
    content = (tmp_path / "v.mp4").read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # so playing starts before the file is loaded


@pytest.mark.parametrize("size", [(63, 301), (64, 96), (512, 512), (16, 4001)])
def test_any_size_becomes_an_even_one(tmp_path, size):
    write(tmp_path / "v.mp4", size=size, captions=["visual: x"])
    height, width = frames(tmp_path / "v.mp4")[0][1].shape
    assert height % 2 == width % 2 == 0
    assert 480 <= width <= 1920


def test_colour_stands_above_the_spectrogram_and_keeps_its_colours(tmp_path):
    gray, color = np.full((64, 640), 128, np.uint8), np.zeros((64, 640, 3), np.uint8)
    color[..., 0] = 255
    write_video(tmp_path / "v.mp4", [color, gray], np.zeros(16_000, np.int16), 16_000)
    with av.open(str(tmp_path / "v.mp4")) as container:
        rgb = next(container.decode(video=0)).to_ndarray(format="rgb24")
    assert abs(rgb[32, 320].astype(int) - [255, 0, 0]).max() < 12
    assert abs(rgb[96, 320].astype(int) - 128).max() < 6


@pytest.mark.parametrize(
    "settings", [{}, {"colorizer": None}, {"colorizer": {"prompt": "a colorful photo of castles"}}]
)
def test_the_video_of_a_colour_picture_shows_it_alone_with_the_sound(tmp_path, settings):
    rate, color = 16_000, np.full((64, 640, 3), (200, 40, 40), np.uint8)
    tone = (9_000 * np.sin(2 * np.pi * 440 * np.arange(int(SECONDS * rate)) / rate)).astype(np.int16)
    record = {"prompts": {"visual": "castle", "audio": "bell"}, "seed": 1, "weights": {}, "settings": settings}
    path = tmp_path / "color.mp4"
    write_sample_video(path, record, [color], tone, rate, comment='{"its": 1}', color_prompt=True)
    heard, _ = sound(tmp_path / "color.mp4")
    assert len(heard) / rate == pytest.approx(SECONDS, abs=0.1)
    assert np.abs(heard[rate : 2 * rate]).max() > 0.2
    shown = frames(tmp_path / "color.mp4")
    assert len(shown) == int(np.ceil(SECONDS * FPS))
    lines = [_line(luma, color) for _, luma in shown]
    assert lines == sorted(lines)
    assert lines[-1] > 600
    with av.open(str(tmp_path / "color.mp4")) as container:
        assert container.metadata["comment"] == '{"its": 1}'
        rgb = next(container.decode(video=0)).to_ndarray(format="rgb24").astype(int)
    assert abs(rgb[:60, 320] - [200, 40, 40]).max() < 20
    captions = rgb[64:]
    assert abs(captions - captions.mean(-1, keepdims=True)).max() < 40  # gray: no second picture below
    lines_of_text = 4 if settings.get("colorizer") else 3
    assert captions.shape[0] // 20 == lines_of_text


def test_captions_lie_below_and_the_line_does_not_cross_them(tmp_path):
    write(tmp_path / "plain.mp4")
    write(tmp_path / "v.mp4", captions=["visual: castle", "audio: <script>"], note="seed 1")
    plain, (first, last) = frames(tmp_path / "plain.mp4"), [frames(tmp_path / "v.mp4")[i][1] for i in (0, -1)]
    assert first.shape[0] > plain[0][1].shape[0]
    below = first[64:].astype(int)
    assert below.max() > 200
    assert abs(below - last[64:]).max() < 100  # white on black would be 219


def test_the_line_reaches_both_ends():
    columns = [line_column(i, width=640, seconds=SECONDS) for i in range(93)]
    assert columns[0] == 0
    assert 640 - columns[-1] <= 640 / SECONDS / FPS + 1
    assert columns == sorted(columns)
    assert line_column(10**6, width=640, seconds=SECONDS) == 639


def test_nothing_half_written_stays(tmp_path):
    (tmp_path / "v.mp4").mkdir()
    with pytest.raises(OSError, match="v.mp4"):
        write(tmp_path / "v.mp4")
    assert [path.name for path in tmp_path.iterdir()] == ["v.mp4"]


def test_a_full_disk_names_the_video_and_leaves_nothing(tmp_path):
    def write():
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
        noise = np.random.default_rng(0).integers(0, 256, (64, 480), dtype=np.uint8)
        try:
            write_video(tmp_path / "x.mp4", [noise], np.zeros(16_000, np.int16), 16_000)
        except NotWritten as error:
            os.write(said, str(error).encode())

    answer, said = os.pipe()
    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join()
    os.close(said)
    with open(answer, encoding="utf-8") as file:
        assert file.read() == f"{tmp_path / 'x.mp4'} can't be written: File too large"
    assert not list(tmp_path.iterdir())
