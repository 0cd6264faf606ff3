"""Read prompt files: JSONL, CSV and YAML."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from its.errors import UserError
from its.instantiate.yaml_values import read_json, read_yaml
from its.media.limited import read_text

LARGEST = {".jsonl": 2**26, ".csv": 2**26, ".yaml": 2**20, ".yml": 2**20}
"""Maximum bytes by file extension. YAML takes about 100 times as long to parse as the others."""


def read_prompts(path: Path) -> Any:
    """Read a prompt file without validating rows: a list of rows, or in YAML also lists of prompts by expert.

    Raises:
        UserError: the file can't be read.
    """
    if path.suffix not in LARGEST:
        raise UserError(f"data.prompts is {str(path)!r:.200}; expected rows, or a file ending in {', '.join(LARGEST)}")
    try:
        text = read_text(path, LARGEST[path.suffix])
        if path.suffix == ".jsonl":
            return _read_jsonl(text, path)
        return _read_csv(text, path) if path.suffix == ".csv" else read_yaml(text)
    except OSError as error:
        raise UserError(f"{path}: the prompt file can't be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: expected UTF-8 ({error.reason} at byte {error.start})") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None


def _read_jsonl(text: str, path: Path) -> list[Any]:
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                rows.append(read_json(line))
            except json.JSONDecodeError as error:
                raise UserError(f"{path}, line {number}: not JSON ({error.msg}, column {error.colno})") from None
            except ValueError as error:
                raise UserError(f"{path}, line {number}: {error}") from None
    return rows


def _read_csv(text: str, path: Path) -> list[Any]:
    # Spreadsheets write semicolons in locales with a decimal comma.
    header = text.partition("\n")[0]
    delimiter = next((sign for sign in ",;\t" if sign in header), ",")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows = []
    try:
        names = [name.strip() for name in reader.fieldnames or []]
        if repeated := [name for name in names if name and names.count(name) > 1]:
            raise UserError(f"{path}, line 1: expected unique column names, got {repeated[0]} more than once")
        for record in reader:
            if all(value is None or not str(value).strip() for value in record.values()):
                continue
            if None in record or None in record.values():
                raise UserError(f"{path}, line {reader.line_num}: expected {len(names)} columns")
            rows.append(_unflatten({key: value for key, value in record.items() if value != ""}))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV ({error})") from None
    return rows


def _unflatten(record: Mapping[str, str]) -> dict[str, Any]:
    """Nest dotted keys: {'guidance_scale.visual': '5'} -> {'guidance_scale': {'visual': '5'}}."""
    nested: dict[str, Any] = {}
    for key, value in record.items():
        *parents, last = key.strip().split(".")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return nested
