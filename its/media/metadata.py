"""Read and write the metadata in a sample's files: id, config, settings and weights.

The metadata is ASCII JSON, stored in the text chunk of a PNG and in the comment of a WAV or MP4 file.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from its import __version__
from its.errors import UserError
from its.media.decode import open_video, png_text
from its.media.headers import wav_chunks
from its.media.limited import check_regular, read_text, reason
from its.privacy import scrub

KEY = "its"
"""Keyword of the text chunk in a PNG, and first key of the JSON in every file, which identifies it."""

LONGEST = 2**18
"""Maximum number of characters of the metadata, usually a few thousand."""

KINDS = (".png", ".wav", ".mp4", ".json")


def text_of(record: Mapping[str, Any]) -> str | None:
    """Return the metadata of a record as text; None if it is longer than `LONGEST`."""
    content = {KEY: __version__, **{key: record.get(key) for key in ("id", "config", "settings", "weights")}}
    text = json.dumps(scrub(content), separators=(",", ":"))
    return text if len(text) <= LONGEST else None


def read_metadata(path: Path) -> dict[str, Any]:
    """Read the metadata of a sample from one of its files, or from its `sample.json`.

    Returns:
        Mapping with at least `id`, `config` and `weights`. Their values are not checked.

    Raises:
        UserError: the file can't be read, or has no metadata, damaged metadata or too much.
    """
    if path.suffix.lower() not in KINDS:
        raise UserError(f"{path}: expected a file of a sample, ending in {', '.join(KINDS)}")
    try:
        check_regular(path)
        text = _read(path)
    except FileNotFoundError:
        raise UserError(f"the file {path} does not exist") from None
    except (OSError, ValueError, struct.error, RecursionError) as error:
        raise UserError(f"{path} can't be read as {path.suffix[1:].upper()}: {reason(error)}") from None
    if text is None:
        raise UserError(f"{path} has no metadata: expected a file written by `its` without --no-metadata")
    if len(text) > LONGEST:
        raise UserError(f"{path}: the metadata has {len(text):,} characters; expected {LONGEST:,} at most")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not {"id", "config", "weights"} <= content.keys():
        raise UserError(f"{path}: the metadata is damaged; expected JSON with the keys id, config and weights")
    return content


def _read(path: Path) -> str | None:
    """Return the metadata of a file as JSON; None if it has none."""
    match path.suffix.lower():
        case ".png":
            return png_text(path, KEY)
        case ".mp4":
            with open_video(path) as container:
                return _identified(container.metadata.get("comment", ""))
        case ".wav":
            with path.open("rb") as file:
                for name, size in wav_chunks(file):
                    if name == b"LIST" and size <= 2 * LONGEST and (text := _comment(file.read(size))) is not None:
                        return text
            return None
    record = json.loads(read_text(path, 4 * LONGEST))
    if not isinstance(record, dict) or "config" not in record:
        return None
    return json.dumps({key: record.get(key) for key in ("id", "config", "settings", "weights")})


def _comment(chunk: bytes) -> str | None:
    """Return the metadata in the ICMT of a LIST chunk of type INFO."""
    at = 4
    while chunk[:4] == b"INFO" and at + 8 <= len(chunk):
        name, size = struct.unpack_from("<4sI", chunk, at)
        if name == b"ICMT":
            return _identified(chunk[at + 8 : at + 8 + size].rstrip(b"\0").decode("ascii", errors="replace"))
        at += 8 + size + size % 2
    return None


def _identified(text: str) -> str | None:
    return text if f'"{KEY}"' in text[:20] else None
