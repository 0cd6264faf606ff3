"""A server of the page on small pictures of the embedded pack, and a browser to open it with."""

import socket
import threading
import time
from functools import partial

import pytest
from run_directories import until

from its.app.jobs import Job
from its.app.library import Library
from its.app.studio import Studio
from its.app.weights import Weights

SMALL = {"model.canvas": [256, 192], "model.steps": 4, "trainer.accelerator": "cpu"}


class Page:
    """A running server: its address, its studio, and the folder of its runs."""

    def __init__(self, url, studio):
        self.url, self.studio, self.output = url, studio, studio.library.output

    def wait(self, job: Job, seconds=60.0):
        """Wait until a job has ended, and return it."""
        end = time.monotonic() + seconds
        while job.status in ("waiting", "running"):
            assert time.monotonic() < end, f"{job.title} still runs"
            time.sleep(0.02)
        return job


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """`serve(output, loads=True)` starts a server in a thread."""
    pytest.importorskip("gradio", reason="no gradio here: pip install --editable '.[app]'")
    import uvicorn

    from its.app.server import build_application

    folder = tmp_path_factory.mktemp("app")
    running = []

    def start(output, *, loads=True, password=None, host="127.0.0.1"):
        weights = Weights(["castle_bell"], overrides=SMALL, trust=())
        studio = Studio(weights, Library(output))
        bound = socket.socket()
        bound.bind(("127.0.0.1", 0))
        bound.listen()
        port = bound.getsockname()[1]
        uploads = folder / f"uploads-{port}"
        application = build_application(studio, uploads=str(uploads), host=host, port=port, password=password)
        server = uvicorn.Server(uvicorn.Config(application, log_level="warning", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=partial(server.run, sockets=[bound]), daemon=True)
        thread.start()
        if loads:
            studio.start()
        running.append((server, thread, studio))
        return Page(f"http://127.0.0.1:{port}", studio)

    yield start
    for server, thread, studio in running:
        server.should_exit = True
        thread.join(10)
        studio.jobs.stop(patience=10)


@pytest.fixture(scope="module")
def server(serve, tmp_path_factory):
    """A server with loaded weights."""
    page = serve(tmp_path_factory.mktemp("runs"))
    while page.studio.weights.pipeline is None:
        assert not page.studio.weights.status.failed, page.studio.weights.status
        time.sleep(0.02)
    return page


@pytest.fixture
def visit(chromium):
    """`visit(server, **context)` opens the page. The test fails if it logs errors or loads anything from elsewhere."""
    wrong, contexts = [], []

    def visit(server, path="/", **context):
        contexts.append(chromium.new_context(**{"viewport": {"width": 1440, "height": 900}, **context}))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        own = (server.url, "data:", "blob:")
        page.on("request", lambda r: None if r.url.startswith(own) else wrong.append(r.url))
        page.on("response", lambda r: wrong.append(f"{r.status} {r.url}") if r.status >= 400 else None)
        page.on("console", lambda m: wrong.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.until = partial(until, page)
        page.goto(server.url + path)
        if path == "/":
            page.locator("#make").wait_for()
            page.until("typeof player !== 'undefined'")
            if server.studio.weights.pipeline is not None:
                page.get_by_text("Embedded demo weights").wait_for()  # the first answer of the server
        return page

    yield visit
    for context in contexts:
        context.close()
    assert wrong == []


@pytest.fixture
def cards():
    """The cards of the results."""
    return lambda page: page.locator("#results .its-card")
