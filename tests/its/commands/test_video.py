"""`its video` on a run's samples."""

import json

import numpy as np
import pytest
import soundfile
from PIL import Image

from its.cli import main

RECORD = {
    "status": "ok",
    "prompts": {"visual": "castle", "audio": "bell"},
    "seed": 1,
    "weights": {"codec": {"name": "pack:mini", "embedded": True}, "vocoder": {"name": "/home/me/secret/sd"}},
    "config": {},
}


@pytest.fixture
def run(tmp_path):
    """Two samples and a failed one; of the second there is a colour picture, and stereo sound at 44.1 kHz."""
    for name, rate, channels in (("a", 16_000, 1), ("b", 44_100, 2)):
        folder = tmp_path / "run/samples" / name
        folder.mkdir(parents=True)
        (folder / "sample.json").write_text(json.dumps({**RECORD, "id": name}))
        Image.new("L", (96, 64), 100).save(folder / "spectrogram.png")
        soundfile.write(folder / "audio.wav", np.zeros((rate, channels)), rate)
    Image.new("RGB", (96, 64), (200, 0, 0)).save(tmp_path / "run/samples/b/color.png")
    (tmp_path / "run/samples/c").mkdir()
    (tmp_path / "run/samples/c/sample.json").write_text(json.dumps({**RECORD, "id": "c", "status": "failed"}))
    return tmp_path / "run"


def test_every_sample_gets_its_video_once(run, capsys):
    assert main(["video", str(run)]) == 0
    assert capsys.readouterr().out == "2 of 2 samples have video.mp4\n"
    a, b = (run / "samples" / name / "video.mp4" for name in "ab")
    made = a.stat().st_mtime_ns
    b.unlink()
    assert main(["video", str(run)]) == 0
    assert "2 of 2 samples have video.mp4, 1 of them from before" in capsys.readouterr().out
    assert a.stat().st_mtime_ns == made
    assert b.exists()
    assert not (run / "samples/c/video.mp4").exists()


def test_every_colour_picture_gets_a_video_of_its_own(run):
    import av

    folder = run / "samples/b"
    for number, color in ((2, (0, 200, 0)), (10, (0, 0, 200))):
        Image.new("RGB", (96, 64), color).save(folder / f"color_{number}.png")
    for name in ("color_x.png", "color_02.png", "colormap.png"):
        Image.new("RGB", (96, 64)).save(folder / name)
    assert main(["video", str(run)]) == 0
    videos = {"color": (200, 0, 0), "color_2": (0, 200, 0), "color_10": (0, 0, 200)}
    assert {path.stem for path in folder.glob("*.mp4")} == {"video", *videos}
    assert {path.name for path in (run / "samples/a").glob("*.mp4")} == {"video.mp4"}
    for name, color in videos.items():
        with av.open(str(folder / f"{name}.mp4")) as container:
            assert container.streams.audio[0].channels == 2
            frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
            assert abs(frame[100, 300].astype(int) - color).max() < 25
    made = {path: path.stat().st_mtime_ns for path in folder.glob("*.mp4")}
    (folder / "color_2.mp4").unlink()
    assert main(["video", str(run)]) == 0
    assert [path.stem for path, time in made.items() if path.stat().st_mtime_ns != time] == ["color_2"]


def test_colour_is_above_and_stereo_stays_stereo(run):
    import av

    assert main(["video", str(run)]) == 0
    heights = {}
    for name in "ab":
        with av.open(str(run / "samples" / name / "video.mp4")) as container:
            heights[name] = container.streams.video[0].height
            assert container.streams.audio[0].channels == (1 if name == "a" else 2)
    assert heights["b"] - heights["a"] == 64 * 5


def test_videos_have_metadata_unless_disabled(run):
    from its.errors import UserError
    from its.media.metadata import read_metadata

    assert main(["video", str(run)]) == 0
    assert read_metadata(run / "samples/a/video.mp4")["id"] == "a"
    assert main(["video", str(run), "--again", "--no-metadata"]) == 0
    with pytest.raises(UserError, match="has no metadata"):
        read_metadata(run / "samples/a/video.mp4")


def test_a_missing_file_is_an_error_before_anything_is_made(run, capsys):
    (run / "samples/b/audio.wav").unlink()
    assert main(["video", str(run)]) == 2
    assert "b lacks audio.wav, although the status in sample.json is ok" in capsys.readouterr().err
    assert not (run / "samples/a/video.mp4").exists()


def test_a_damaged_file_stops_no_other(run, capsys):
    (run / "samples/a/audio.wav").write_bytes(b"no sound")
    assert main(["video", str(run)]) == 1
    captured = capsys.readouterr()
    assert "its: failed: a: UserError" in captured.err
    assert "1 of 2 samples" in captured.out
    assert {p.name for p in (run / "samples/a").iterdir()} == {"sample.json", "spectrogram.png", "audio.wav"}


@pytest.mark.parametrize("command", ["video", "log"])
def test_a_folder_that_is_no_run(command, tmp_path, capsys):
    assert main([command, str(tmp_path)]) == 2
    assert "has no folder samples" in capsys.readouterr().err
    (tmp_path / "samples").mkdir()
    assert main([command, str(tmp_path)]) == 2
    assert "has no samples" in capsys.readouterr().err
