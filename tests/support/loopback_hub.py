"""A Hugging Face hub on the loopback interface: serves local folders as model repositories to tests."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

from hub_commits import Commit, File, Refusal, Response

if TYPE_CHECKING:
    import pytest

API = re.compile(r"/api/models/([^/]+/[^/]+)(?:/(revision|tree|auth-check)(?:/([^/]+)(?:/(.+))?)?)?")
RESOLVE = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")


class Hub:
    """A hub that listens from construction until `close`, or until the end of its `with` block.

    Attributes:
        endpoint: the URL to use as `HF_ENDPOINT`.
        token: token that opens gated and private repositories; None if no token does.
        expired: a token that opens nothing, public repositories included.
        delay: seconds to wait before each response.
        requests: method and path, unquoted and without query, of each request.
        served: bytes fetched by GET requests, by repository and file name.
        begun: the same for requests of the beginning of a file, which holds the header of safetensors files.
    """

    def __init__(self) -> None:
        self.token: str | None = None
        self.expired: str | None = None
        self.delay = 0.0
        self.requests: list[tuple[str, str]] = []
        self.served: Counter[tuple[str, str]] = Counter()
        self.begun: Counter[tuple[str, str]] = Counter()
        self._repositories: dict[str, _Repository] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.hub = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening, so that connections are refused. Safe to call twice."""
        if not self._closed.is_set():
            self._closed.set()
            self._server.shutdown()
            self._server.server_close()

    def forget(self) -> None:
        """Clear `requests`, `served` and `begun`."""
        for record in (self.requests, self.served, self.begun):
            record.clear()

    def add(
        self,
        repo_id: str,
        folder: Path,
        *,
        revision: str | None = None,
        refs: tuple[str, ...] = ("main",),
        gated: bool = False,
        private: bool = False,
    ) -> str:
        """Serve a folder as one commit of a repository. Files are hashed here and must not change later.

        Args:
            repo_id: `owner/name`; several calls with one name add several commits.
            folder: its files, hidden ones included, are those of the commit.
            revision: commit hash of 40 hex digits; None derives one from the content.
            refs: branches, tags and pull requests (`refs/pr/1`) that point to the commit.
            gated: whether the files, but not the listing, need the token.
            private: whether everything needs the token.

        Returns:
            The commit hash.
        """
        if revision is not None and not re.fullmatch("[0-9a-f]{40}", revision):
            raise ValueError(f"got the revision {revision!r}, expected a commit hash of 40 hex digits")
        files = {p.relative_to(folder).as_posix(): File.read(p) for p in sorted(folder.rglob("*")) if p.is_file()}
        content = repr([(name, file.blob_id) for name, file in files.items()])
        revision = revision or hashlib.sha1(content.encode()).hexdigest()
        repository = self._repositories.setdefault(repo_id, _Repository())
        repository.gated |= gated
        repository.private |= private
        repository.commits[revision] = Commit(revision, files)
        repository.refs |= dict.fromkeys(refs, revision)
        return revision

    def environment(self, cache: Path) -> dict[str, str]:
        """Environment variables that point a new process to this hub, without a token and with `cache` as its cache."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_CACHE": str(cache),
            "HF_TOKEN": "",
            "HUGGING_FACE_HUB_TOKEN": "",
            "HF_TOKEN_PATH": str(cache / "token"),
            "HF_HUB_OFFLINE": "0",
            "TRANSFORMERS_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    def connect(self, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
        """Point this process and those that it starts to this hub, until `monkeypatch` is undone.

        A test logs in with `monkeypatch.setenv("HF_TOKEN", ...)`.
        """
        from huggingface_hub import constants, hf_api
        from huggingface_hub.utils import _cache_manager, close_session

        for name, value in self.environment(cache).items():
            monkeypatch.setenv(name, value)
        values: dict[str, Any] = {
            "ENDPOINT": self.endpoint,
            "HUGGINGFACE_CO_URL_TEMPLATE": self.endpoint + "/{repo_id}/resolve/{revision}/{filename}",
            "HF_HUB_CACHE": str(cache),
            "HF_TOKEN_PATH": str(cache / "token"),
            "HF_STORED_TOKENS_PATH": str(cache / "stored_tokens"),
            "HF_HUB_OFFLINE": False,
            "HF_HUB_DISABLE_XET": True,
            "HF_HUB_DISABLE_TELEMETRY": True,
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": False,
        }
        for name, value in values.items():
            monkeypatch.setattr(constants, name, value)
        monkeypatch.setattr(hf_api.api, "endpoint", self.endpoint)  # behind huggingface_hub.model_info and the like
        monkeypatch.setattr(_cache_manager, "HF_HUB_CACHE", str(cache))
        close_session()  # the HTTP client reads the proxy settings once

    def respond(self, method: str, url: str, headers: Any) -> Response:
        """Return status, headers and body for a request."""
        path, _, query = url.partition("?")
        self.requests.append((method, unquote(path)))
        self._closed.wait(self.delay)
        token = headers.get("Authorization", "").removeprefix("Bearer ")
        options = {key for key, values in parse_qs(query).items() if values[-1] == "true"}
        try:
            if (found := RESOLVE.fullmatch(path)) is not None:
                repo_id, revision, name = map(unquote, found.groups())
                commit = self._open(repo_id, token, files=True).commit(revision)
                part = headers.get("Range") if method == "GET" else None
                response = commit.resolve(name, part)
                if method == "GET":
                    counter = self.begun if re.fullmatch(r"bytes=0-\d+", part or "") else self.served
                    with self._lock:
                        counter[repo_id, name] += len(response[2])
                return response
            if (found := API.fullmatch(path)) is not None:
                repo_id, verb, revision, name = (unquote(part or "") for part in found.groups())
                repository = self._open(repo_id, token, files=verb == "auth-check")
                if verb == "auth-check":
                    return _json(200, {})
                commit = repository.commit(revision or "main")
                if verb == "tree":
                    return _json(200, commit.tree(name, options))
                access = {"gated": "auto" if repository.gated else False, "private": repository.private}
                return _json(200, {"id": repo_id, "tags": []} | access | commit.info(options))
            return (200 if path == "/" else 404), {}, b""
        except Refusal as refusal:
            headers = {"X-Error-Code": refusal.code, "X-Error-Message": refusal.message} | refusal.headers
            return _json(refusal.status, {"error": refusal.message}, headers)

    def _open(self, repo_id: str, token: str, *, files: bool) -> _Repository:
        if self.expired is not None and token == self.expired:
            raise Refusal(401, "", "Invalid credentials in Authorization header")
        repository = self._repositories.get(repo_id)
        accepted = self.token is not None and token == self.token
        if repository is None or (repository.private and not accepted):
            raise Refusal(404 if token else 401, "RepoNotFound", "Repository not found")
        if files and repository.gated and not accepted:
            raise Refusal(403 if token else 401, "GatedRepo", f"Access to model {repo_id} is restricted.")
        return repository


def _json(status: int, content: object, headers: dict[str, Any] | None = None) -> Response:
    return status, {"Content-Type": "application/json"} | (headers or {}), json.dumps(content).encode()


@dataclass
class _Repository:
    gated: bool = False
    private: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, revision: str) -> Commit:
        commit = self.commits.get(self.refs.get(revision, revision))
        if commit is None:
            raise Refusal(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit


class _Server(ThreadingHTTPServer):
    hub: Hub

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # the client closed the connection
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        status, headers, body = self.server.hub.respond(self.command, self.path, self.headers)
        self.send_response(status)
        for name, value in ({"Content-Length": len(body)} | headers).items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Print nothing: `Hub.requests` is the log."""
