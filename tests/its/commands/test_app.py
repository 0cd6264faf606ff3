"""`its app`: its options, before anything is served."""

import contextlib
import importlib.util
import os
import signal
import socket
import time
import urllib.request

import pytest

from its.cli import main


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ITS_APP_PASSWORD", raising=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])
def test_other_machines_need_a_password(host, capfd):
    assert main(["app", "--host", host]) == 2
    assert "--password" in capfd.readouterr().err


def test_an_empty_password_is_none(capfd):
    assert main(["app", "--password", " "]) == 2
    assert "--password" in capfd.readouterr().err


def test_without_gradio_the_message_says_what_to_install(monkeypatch, capfd):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gradio" else find(name))
    assert main(["app"]) == 2
    assert "pip install 'gradio" in capfd.readouterr().err


@pytest.fixture
def gradio():
    pytest.importorskip("gradio", reason="no gradio here: pip install --editable '.[app]'")


@pytest.mark.usefixtures("gradio")
def test_a_taken_port_and_a_wrong_one_are_named(capfd):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["app", "--port", str(port)]) == 2
        assert f"127.0.0.1:{port}" in capfd.readouterr().err
    assert main(["app", "--port", "99999"]) == 2
    assert "99999" in capfd.readouterr().err


@pytest.mark.usefixtures("gradio")
@pytest.mark.parametrize("arguments", [["--config", "nothing"], ["--model.steps"], ["--passwort", "x"]])
def test_wrong_options_are_refused_before_the_page_is_served(arguments, capfd):
    assert main(["app", "--port", "0", *arguments]) == 2
    assert capfd.readouterr().out == ""


@pytest.mark.usefixtures("gradio")
def test_it_serves_until_ctrl_c(forks, tmp_path):
    port = forks.port()
    options = ["--port", port, "--model.canvas", "[256,256]", "--output", "made here"]
    (process,) = forks.start(["app", *options], cwd=tmp_path)
    content = b""
    while not content:
        assert forks.running(process), forks.log.read_text()
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            content = answer.read()
        time.sleep(0.05)
    os.kill(process, signal.SIGINT)
    assert forks.wait([process]) == [130]
    assert b"gradio" in content
    assert f"http://127.0.0.1:{port}" in forks.log.read_text()
    assert (tmp_path / "made here").is_dir()
