"""What the guard in front of the page lets through."""

import asyncio
import base64

import pytest

from its.app import guard
from its.app.guard import Guard

HOST = "127.0.0.1:7860"


async def _app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/html")]})
    await send({"type": "http.response.body", "body": b"page"})


def ask(path="/", *, method="GET", host=HOST, hosts=(HOST,), password=None, **headers):
    """Status and headers of the answer to a request."""
    named = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }
    sent = []

    async def send(message):
        sent.append(message)

    asyncio.run(Guard(_app, hosts=hosts, password=password, uploads="/tmp/up")(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"])


def basic(password):
    return "Basic " + base64.b64encode(f"anyone:{password}".encode()).decode()


@pytest.mark.parametrize("path", ["/", "/config", "/assets/a.js", "/its/page.js", "/gradio_api/queue/data"])
def test_the_page_reads_its_own_paths(path):
    status, headers = ask(path)
    assert status == 200
    assert b"default-src 'self'" in headers[b"content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=http://example.org/",
        "/gradio_api/file=/tmp/up/../../etc/passwd",
        "/gradio_api/file=/tmp/up/%2e%2e/%2e%2e/etc/passwd",
        "/gradio_api/file=/tmp/upper",
        "/gradio_api/proxy=http://example.org/",
        "/its/runs/../../etc/passwd",
        "/monitoring",
        "/docs",
        "/openapi.json",
        "/gradio_api/deep_link",
        "/gradio_api/vibe-edit",
    ],
)
def test_other_paths_are_refused(path):
    assert ask(path)[0] == 403


def test_uploads_are_read_and_other_paths_are_not_written():
    assert ask("/gradio_api/file=/tmp/up/abc/a.png")[0] == 200
    assert ask("/gradio_api/upload", method="POST", origin=f"http://{HOST}")[0] == 200
    for method in ("POST", "PUT", "DELETE"):
        assert ask("/its/runs/a/", method=method)[0] == 403
    assert ask("/gradio_api/vibe-edit/", method="POST")[0] == 403


def test_other_hosts_and_sites_are_refused():
    assert ask(host="evil.example:7860")[0] == 403  # DNS rebinding
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1"):
        assert ask("/gradio_api/queue/join", method="POST", origin=origin)[0] == 403
    assert ask("/its/runs/a/samples/b/video.mp4", sec_fetch_site="cross-site")[0] == 403
    assert ask(sec_fetch_site="cross-site", sec_fetch_mode="navigate")[0] == 200  # a link to the page


def test_a_password_is_required_for_everything(monkeypatch):
    monkeypatch.setattr(guard, "DELAY", 0)
    for path in ("/", "/assets/a.js", "/its/page.js"):
        status, headers = ask(path, password="pässword", hosts=())
        assert status == 401
        assert headers[b"www-authenticate"].startswith(b"Basic")
        assert ask(path, password="pässword", hosts=(), authorization=basic("wrong"))[0] == 401
        assert ask(path, password="pässword", hosts=(), authorization="Basic !")[0] == 401
        assert ask(path, password="pässword", hosts=(), authorization=basic("pässword"))[0] == 200


def test_any_host_without_a_password_is_a_mistake():
    with pytest.raises(ValueError, match="password"):
        Guard(_app, hosts=(), password=None, uploads="/tmp/up")
