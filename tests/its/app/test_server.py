"""Requests to the real server, beside those of the page."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from run_directories import add_sample

from its.media.encode import write_png


@pytest.fixture(scope="module")
def server(serve, tmp_path_factory):
    """A server without weights, and a run with one sample."""
    output = tmp_path_factory.mktemp("runs")
    add_sample(output / "run", prompts={"visual": "<script>window.hit = 1</script>", "audio": "{{bell}}"})
    return serve(output, loads=False)


def fetch(server, path, data=None, **headers):
    """Status and content of an answer."""
    request = urllib.request.Request(server.url + path, data=data, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def test_files_of_samples_are_served_with_ranges(server):
    (folder,) = server.output.glob("run/samples/*")
    path = f"/its/runs/run/samples/{folder.name}/audio.wav"
    status, content, headers = fetch(server, path, Range="bytes=4-11")
    assert (status, content[4:]) == (206, b"WAVE")
    assert headers["x-content-type-options"] == "nosniff"
    assert fetch(server, path + "?download=true")[2]["content-disposition"].startswith("attachment")
    status, content, _ = fetch(server, f"/its/runs/run/samples/{folder.name}/video.mp4")
    assert (status, content[4:8]) == (200, b"ftyp")


@pytest.mark.parametrize(
    "path",
    [
        "/its/runs/..%2f..%2fetc/samples/a/passwd",
        "/its/runs/run/samples/..%2f../passwd",
        "/its/runs/run/samples/nothing/audio.wav",
        "/its/runs/nothing/",
        "/its/made/nothing/audio.wav",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file%3D/etc/passwd",
        "/gradio_api/file=pyproject.toml",
        "/gradio_api/proxy=https://example.org",
    ],
)
def test_nothing_else_is_served(server, path):
    status, content, _ = fetch(server, path)
    assert status in (403, 404)
    assert b"root:" not in content


def test_a_gallery_is_rendered_and_not_read_from_the_run(server):
    (server.output / "run" / "index.html").write_text("<script>alert(1)</script>")
    status, content, _ = fetch(server, "/its/runs/run/")
    assert status == 200
    text = content.decode()
    assert "alert(1)" not in text
    assert "<script>window.hit" not in text
    assert "window.hit = 1" in unescape(text).replace("\\u003c", "<")


@pytest.mark.parametrize("extra", [{}, {"is_stream": True}, {"path": "http://192.0.2.1/a.png"}])
def test_an_event_may_not_name_files_of_the_machine(server, tmp_path, extra, capfd):
    config = json.loads(fetch(server, "/config")[1])
    secret = tmp_path / "secret.png"
    write_png(secret, np.zeros((8, 8), np.uint8))
    named = {"path": str(secret), "url": "http://192.0.2.1/", "meta": {"_type": "gradio.FileData"}, **extra}
    uploads = Path(os.environ["GRADIO_TEMP_DIR"])
    before = set(uploads.rglob("*"))
    kinds = {component["id"]: component["type"] for component in config["components"]}
    events = [event for event in config["dependencies"] if event["backend_fn"] and event["inputs"]]
    assert {"image", "file", "textbox"} <= {kinds[each] for event in events for each in event["inputs"]}
    for event in events:
        body = {"data": [named] * len(event["inputs"]), "fn_index": event["id"], "session_hash": "x"}
        data = json.dumps(body).encode()
        status, content, _ = fetch(server, "/gradio_api/run/predict", data, **{"Content-Type": "application/json"})
        assert status >= 400 or b"secret" not in content
    assert set(uploads.rglob("*")) == before
    assert "was not uploaded" in capfd.readouterr().err


def test_the_page_names_no_other_server(server):
    _, content, _ = fetch(server, "/")
    page = content.decode()
    loaded = [part.split('"')[0] for part in page.split('src="')[1:] + page.split('href="')[1:]]
    assert [address for address in loaded if address.startswith(("http:", "https:", "//"))] == []


def test_the_page_is_served_before_torch_is_imported():
    pytest.importorskip("gradio")
    modules = "its.app.page, its.app.routes, its.app.server, its.app.studio, its.commands.app"
    code = f"import sys, {modules}; print({{'torch', 'lightning', 'diffusers'}} & sys.modules.keys())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).split() == ["set()"]
