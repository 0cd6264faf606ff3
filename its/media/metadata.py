"""What made a sample, inside its files: a PNG's text, a WAV's comment, an MP4's comment.

It is JSON, plain ASCII, and only ever parsed as data.
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
from its.media.limited import check_regular, read_text
from its.privacy import scrub

KEY = "its"
"""Under this keyword the text stands in a PNG, and this key it has in every file: so it is known as ours."""

LONGEST = 2**18
"""Characters. Ours have some thousand; a config with more is not written into files, and never read from them."""

KINDS = (".png", ".wav", ".mp4", ".json")


def text_of(record: Mapping[str, Any]) -> str | None:
    """What a sample's files carry of its record: id, config and weights. None where that is too long."""
    kept = {KEY: __version__, **{key: record.get(key) for key in ("id", "config", "settings", "weights")}}
    text = json.dumps(scrub(kept), separators=(",", ":"))
    return text if len(text) <= LONGEST else None


def read_metadata(path: Path) -> dict[str, Any]:
    """What a file of ours says of the sample that it is of, or `sample.json` itself.

    Returns:
        A mapping with at least `id`, `config` and `weights`, none of them checked.

    Raises:
        UserError: the file can't be read, or holds nothing of ours, or too much.
    """
    readers = {".png": _from_png, ".wav": _from_wav, ".mp4": _from_mp4, ".json": _from_json}
    if path.suffix.lower() not in readers:
        raise UserError(f"{path}: expected a file that its wrote, ending in {', '.join(KINDS)}")
    try:
        check_regular(path)
        text = readers[path.suffix.lower()](path)
    except FileNotFoundError:
        raise UserError(f"there is no file {path}") from None
    except (OSError, ValueError, struct.error, RecursionError) as error:
        reason = str((isinstance(error, OSError) and error.strerror) or error).partition("\n")[0]
        raise UserError(f"{path} can't be read as {path.suffix[1:].upper()}: {reason}") from None
    if text is None:
        raise UserError(f"{path} does not say what made it: its did not write it, or with metadata left out")
    if len(text) > LONGEST:
        raise UserError(f"{path}: its metadata has {len(text)} characters; ours have at most {LONGEST}")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not {"id", "config", "weights"} <= content.keys():
        raise UserError(f"{path}: its metadata is not ours; expected JSON with id, config and weights")
    return content


def _from_png(path: Path) -> str | None:
    return png_text(path, KEY)


def _from_wav(path: Path) -> str | None:
    with path.open("rb") as file:
        for name, size in wav_chunks(file):
            if name == b"LIST" and size <= 2 * LONGEST and (text := _comment(file.read(size))) is not None:
                return text
    return None


def _comment(chunk: bytes) -> str | None:
    """The ICMT of an INFO list."""
    at = 4
    while chunk[:4] == b"INFO" and at + 8 <= len(chunk):
        name, size = struct.unpack_from("<4sI", chunk, at)
        if name == b"ICMT":
            text = chunk[at + 8 : at + 8 + size].rstrip(b"\0").decode("ascii", errors="replace")
            return text if f'"{KEY}"' in text[:20] else None
        at += 8 + size + size % 2
    return None


def _from_mp4(path: Path) -> str | None:
    with open_video(path) as container:
        text: str = container.metadata.get("comment", "")
    return text if f'"{KEY}"' in text[:20] else None


def _from_json(path: Path) -> str | None:
    record = json.loads(read_text(path, 4 * LONGEST))
    if not isinstance(record, dict) or "config" not in record:
        return None
    return json.dumps({key: record.get(key) for key in ("id", "config", "settings", "weights")})
