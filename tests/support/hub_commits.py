"""Files and commits of a `Hub`, and their HTTP responses."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

LFS_SUFFIXES = {".safetensors", ".bin", ".ckpt", ".pt", ".model", ".h5", ".msgpack"}
"""Suffixes of files that the real hub stores in Git LFS."""

Response = tuple[int, dict[str, Any], bytes]
"""Status, headers and body."""


@dataclass(eq=False)
class Refusal(Exception):
    """A request that the hub refuses, with the code that `huggingface_hub` turns into an exception."""

    status: int
    code: str
    message: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class File:
    """A file of a commit; `sha256` and `pointer_size` matter in Git LFS only."""

    path: Path
    size: int
    blob_id: str
    sha256: str | None
    pointer_size: int

    @classmethod
    def read(cls, path: Path) -> File:
        """Hash a file."""
        content = blob = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest() if path.suffix in LFS_SUFFIXES else None
        if sha256 is not None:  # Git stores a pointer
            blob = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n".encode()
        blob_id = hashlib.sha1(b"blob %d\0" % len(blob) + blob).hexdigest()
        return cls(path, len(content), blob_id, sha256, len(blob))

    def lfs(self, key: str) -> dict[str, Any]:
        """The entry `lfs` of a listing, in which the hash is called `key`; empty if the file is not in LFS."""
        info = {key: self.sha256, "size": self.size, "pointerSize": self.pointer_size}
        return {} if self.sha256 is None else {"lfs": info}


@dataclass(frozen=True)
class Commit:
    """The files of a repository at one commit, by name."""

    sha: str
    files: dict[str, File]

    def info(self, options: set[str]) -> dict[str, Any]:
        """The part of a model's description that depends on the commit; with sizes and hashes for `blobs`."""
        siblings: list[dict[str, Any]] = [{"rfilename": name} for name in self.files]
        if "blobs" in options:
            for sibling, file in zip(siblings, self.files.values(), strict=True):
                sibling |= {"size": file.size, "blobId": file.blob_id} | file.lfs("sha256")
        return {"sha": self.sha, "siblings": siblings}

    def tree(self, folder: str, options: set[str]) -> list[dict[str, Any]]:
        """List a folder ("" for all), with its subfolders for `recursive` and the last commit for `expand`."""
        entries: dict[str, dict[str, Any]] = {}
        for name, file in self.files.items():
            for parent in map(str, PurePosixPath(name).parents):
                oid = hashlib.sha1(parent.encode()).hexdigest()
                entries[parent] = {"type": "directory", "oid": oid, "size": 0, "path": parent}
            entries[name] = {"type": "file", "oid": file.blob_id, "size": file.size, "path": name} | file.lfs("oid")
        if (folder or ".") not in entries:
            raise Refusal(404, "EntryNotFound", f"{folder} does not exist on {self.sha}")
        if "expand" in options:
            for entry in entries.values():
                entry["lastCommit"] = {"id": self.sha, "title": "Upload", "date": "2024-01-01T00:00:00.000Z"}
        here = PurePosixPath(folder)
        parents = {name: PurePosixPath(name).parents for name in entries if name != "."}
        if "recursive" in options:
            return [entries[name] for name, above in parents.items() if here in above]
        return [entries[name] for name, above in parents.items() if here == above[0]]

    def resolve(self, name: str, requested: str | None) -> Response:
        """Return a file, or the range of bytes that a `Range` header requests."""
        if (file := self.files.get(name)) is None:
            raise Refusal(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": self.sha})
        etag = f'"{file.sha256 or file.blob_id}"'
        headers = {"ETag": etag, "X-Repo-Commit": self.sha, "Accept-Ranges": "bytes"}
        if file.sha256 is not None:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(file.size)}
        content = file.path.read_bytes()
        if requested is None:
            return 200, headers, content
        first, _, last = requested.removeprefix("bytes=").partition("-")  # "a-b", "a-" or "-n"
        start = int(first) if first else max(file.size - int(last), 0)
        end = min(int(last) + 1, file.size) if first and last else file.size
        if start >= end:
            return 416, headers | {"Content-Range": f"bytes */{file.size}"}, b""
        return 206, headers | {"Content-Range": f"bytes {start}-{end - 1}/{file.size}"}, content[start:end]
