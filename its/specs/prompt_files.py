"""Read files of prompts: JSONL, CSV and YAML."""

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
"""Bytes of a file of prompts, by its ending. YAML takes some 100 times as long to read as the others."""


def read_prompts(path: Path) -> Any:
    """Content of a file of prompts, not checked: a list of rows, or in YAML also a list of prompts for each expert.

    Raises:
        UserError: the file can't be read.
    """
    readers = {".jsonl": _read_jsonl, ".csv": _read_csv, ".yaml": _read_yaml, ".yml": _read_yaml}
    if path.suffix not in readers:
        raise UserError(f"data.prompts is {str(path)!r:.200}; expected rows, or a file ending in {', '.join(readers)}")
    try:
        return readers[path.suffix](read_text(path, LARGEST[path.suffix]), path)
    except OSError as error:
        raise UserError(f"{path}: the file of prompts can't be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the file of prompts is not UTF-8 ({error.reason} at byte {error.start})") from None


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
    """Rows of CSV, separated by commas, or by semicolons or tabs if the header has no comma. Blank rows are left out.

    Spreadsheets write semicolons where the comma is the decimal sign.
    """
    header = text.partition("\n")[0]
    delimiter = next((sign for sign in ",;\t" if sign in header), ",")
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=delimiter)
    rows = []
    try:
        names = [name.strip() for name in reader.fieldnames or []]
        if repeated := [name for name in names if name and names.count(name) > 1]:
            raise UserError(f"{path}, line 1: two columns are called {repeated[0]}; expected different names")
        for record in reader:
            if all(value is None or not str(value).strip() for value in record.values()):
                continue
            if None in record or None in record.values():
                raise UserError(f"{path}, line {reader.line_num}: expected {len(names)} columns")
            rows.append(_unflatten({key: value for key, value in record.items() if value != ""}))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not CSV ({error})") from None
    return rows


def _read_yaml(text: str, path: Path) -> Any:
    try:
        return read_yaml(text)
    except yaml.YAMLError as error:
        raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None


def _unflatten(record: Mapping[str, str]) -> dict[str, Any]:
    """{'guidance_scale.visual': '5'} -> {'guidance_scale': {'visual': '5'}}."""
    nested: dict[str, Any] = {}
    for key, value in record.items():
        outer, dot, inner = key.strip().partition(".")
        if dot:
            nested.setdefault(outer, {})[inner] = value
        else:
            nested[outer] = value
    return nested
