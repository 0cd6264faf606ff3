"""ASGI middleware: refuses foreign hosts, origins, paths and passwords, and forbids pages to load anything foreign."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/gradio_api"

READ = (
    *("/its/", "/assets/", "/static/", "/svelte/", "/theme.css", "/favicon.ico", "/config"),
    *(
        f"{API}/{name}"
        for name in ("theme.css", "startup-events", "heartbeat/", "queue/data", "upload_progress", "info")
    ),
)
"""Beginnings of the paths that the page reads, besides `/` and its own uploads."""

WRITE = tuple(f"{API}/{name}" for name in ("queue/join", "run/", "upload", "component_server", "cancel", "reset"))
"""Beginnings of the paths that the page sends to. Others of Gradio's, such as proxies, are refused."""

POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
)
"""Content-Security-Policy. Gradio evaluates scripts of its own, so scripts are restricted by their origin alone."""

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

DELAY = 1.0
"""Seconds before a wrong password is answered."""


class Guard:
    """Middleware around the whole application.

    Args:
        app: the application.
        hosts: accepted values of the header Host; empty for any, in which case a password is necessary.
        password: password of HTTP basic authentication, with any user name; None for none.
        uploads: folder of uploaded files.
    """

    def __init__(self, app: ASGIApp, *, hosts: Sequence[str], password: str | None, uploads: str) -> None:
        if not hosts and not password:
            raise ValueError("expected hosts or a password")
        self.app, self.hosts, self.password, self.uploads = app, set(hosts), password, uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if refusal := self._refusal(scope, headers):
            await _answer(send, 403, refusal)
        elif self.password is not None and not _is_authorized(headers.get("authorization", ""), self.password):
            if "authorization" in headers:
                await asyncio.sleep(DELAY)
            await _answer(send, 401, "a password is necessary", {"www-authenticate": 'Basic realm="its app"'})
        else:
            await self.app(scope, receive, _with_headers(send))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> str | None:
        """Return the reason to refuse a request, or None."""
        host = headers.get("host", "")
        if self.hosts and host.lower() not in self.hosts:
            return "unknown host"  # DNS rebinding
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != host.lower():
            return "request from another site"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and (
            scope["path"] != "/" or headers.get("sec-fetch-mode") != "navigate"
        ):
            return "request from another site"
        path, method = unquote(scope["path"]), scope["method"]
        if method in ("GET", "HEAD"):
            known = path == "/" or path.startswith(READ) or path.startswith(f"{API}/file={self.uploads}/")
        else:
            known = method == "POST" and path.startswith(WRITE)
        return None if known and "/.." not in path else "unknown path"


def _is_authorized(header: str, password: str) -> bool:
    kind, _, credentials = header.partition(" ")
    if kind.lower() != "basic":
        return False
    try:
        given = base64.b64decode(credentials.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return False
    return hmac.compare_digest(given, password.encode())


def _with_headers(send: Send) -> Send:
    """Add the headers to each response that does not have them."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            present = {name.lower() for name, _ in message["headers"]}
            extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present]
            message = {**message, "headers": [*message["headers"], *extra]}
        await send(message)

    return send_with_headers


async def _answer(send: Send, status: int, text: str, headers: dict[str, Any] | None = None) -> None:
    content = f"its app: {text}\n".encode()
    listed = {"content-type": "text/plain; charset=utf-8", "content-length": str(len(content)), **(headers or {})}
    encoded = [(name.encode(), value.encode()) for name, value in listed.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": content})
