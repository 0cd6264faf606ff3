"""Pipes, devices and huge files as inputs of commands: one message, immediately."""

import os
import signal

import pytest

from its.cli import main
from its.media import decode


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    def late(signum, frame):
        raise AssertionError("still reading after 30 seconds")

    monkeypatch.setenv("ITS_DEBUG", "1")
    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture(params=["pipe", "device", "huge"])
def odd(request, tmp_path):
    """`odd(path)` puts something odd at a path."""

    def put(path):
        path.unlink(missing_ok=True)
        if request.param == "pipe":
            os.mkfifo(path)
        elif request.param == "device":
            path.symlink_to("/dev/zero")
        else:
            with path.open("wb") as file:
                file.truncate(2**40)  # sparse
        return str(path)

    return put


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["sonify"], "x.png"),
        (["spectrogram"], "x.wav"),
        (["rerun"], "x.png"),
        (["rerun"], "x.wav"),
        (["rerun"], "x.mp4"),
        (["rerun"], "x.json"),
        (["study-results"], "x.json"),
    ],
)
def test_a_file_on_the_command_line(command, name, odd, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([*command, odd(tmp_path / name)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert name in line


@pytest.mark.parametrize("name", ["prompts.jsonl", "prompts.csv", "prompts.yaml"])
def test_a_file_of_prompts(name, odd, config, tmp_path, capsys):
    assert main(["predict", "--config", str(config), "--data.prompts", odd(tmp_path / name)]) == 2
    assert f"{name}: the prompt file can't be read" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "name"), [("image", "x.png"), ("audio", "x.wav")])
def test_media_in_the_place_of_prompts(kind, name, odd, config, tmp_path, capsys):
    row = f"[{{visual: castle, audio: {{{kind}: {odd(tmp_path / name)}}}}}]"
    assert main(["predict", "--config", str(config), f"--data.prompts={row}"]) == 2
    assert f"the {kind} {tmp_path / name} can't be used" in capsys.readouterr().err


def test_records(add, odd, capsys):
    good, bad = add(seed=1, seconds=0.2), add(seed=2, seconds=0.2)
    odd(bad / "sample.json")
    run = str(good.parents[1])
    for command in (["gallery", run], ["video", run], ["log", run, "--mode=disabled"]):
        main(command)
        assert f"{bad} is left out: sample.json can't be read" in capsys.readouterr().err, command


def test_media_of_runs(add, odd, capsys):
    good, bad = add(seed=1, seconds=0.2), add(seed=2, seconds=0.2)
    for name in ("spectrogram.png", "audio.wav", "color.png"):
        odd(bad / name)
    run = str(good.parents[1])
    for command in (["gallery", run], ["video", run], ["study", run, run], ["log", run, "--mode=disabled"]):
        assert main([*command]) in (0, 1, 2)
    assert not (bad / "video.mp4").exists()
    assert main(["evaluate", run, "--scorers", "mini"]) == 2
    assert str(bad) in capsys.readouterr().err


def test_configs_of_runs(add, odd, capsys):
    run = add(seconds=0.2).parents[1]
    odd(run / "its_config.yaml")
    assert main(["log", str(run), "--mode=disabled"]) == 2
    assert "its_config.yaml" in capsys.readouterr().err


def test_disguised_postscript_starts_no_program(add, tmp_path, monkeypatch, capsys):
    """Pillow passes EPS to Ghostscript, whatever the file's extension."""
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: pytest.fail("Ghostscript was started"))
    monkeypatch.chdir(tmp_path)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 128 64\n%%EndComments\n(x) run\n"
    folder = add(seconds=0.2, settings={"canvas": [64, 128], "trim": 0})
    (folder / "spectrogram.png").write_bytes(eps)
    (folder / "color.png").write_bytes(eps)
    run = str(folder.parents[1])
    assert main(["video", run]) == 1
    assert main(["colorize", run]) == main(["sonify", str(folder / "spectrogram.png")]) == 2
    assert main(["evaluate", run, "--scorers", "mini"]) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_a_picture_is_limited_in_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(decode, "MOST_BYTES", 10)
    (tmp_path / "x.png").write_bytes(b"x" * 11)
    with pytest.raises(OSError, match="more than 10 bytes"):
        decode.open_picture(tmp_path / "x.png")


def test_run_directories_whose_names_are_no_text(add, tmp_path, capsys):
    name = os.fsdecode(b"r\xe4n\x1b[31m")
    add(name, seconds=0.2, scores={"a": {"score": 0.5}})
    add("con ", seconds=0.2)
    run, other = str(tmp_path / name), str(tmp_path / "con ")
    for command in (
        ["gallery", run],
        ["gallery", run, other, "--output", f"{run}-page"],
        ["table", run],
        ["table", run, "--table=csv"],
        ["study", run, other, "--output", f"{run}-study"],
        ["video", run],
    ):
        assert main(command) == 0, command
    printed = capsys.readouterr()
    assert "\x1b" not in printed.out + printed.err
    assert r"r\udce4n\x1b[31m" in printed.out
