"""Read the YAML files of a config, and those that they name in the place of values."""

from __future__ import annotations

import os
import re
from functools import reduce
from pathlib import Path
from typing import Any

import yaml

from its.config.merge import Values, merge, spell_out
from its.errors import UserError
from its.instantiate.yaml_values import read_yaml
from its.media.limited import read_text, user_path
from its.media.packaged import find_config, find_packaged

LARGEST = 2**20
"""Bytes of a config. YAML of this size takes some seconds to read."""

LARGEST_TOGETHER = 4 * LARGEST
"""Bytes of all files of a config, each counted as often as it is named."""

MOST_FILES = 100
"""Files that one config may name, counted again each time that one is named."""

_NAMES_FILE = re.compile(
    r"model(\.(experts(\.[^.]+)?|combiner|scheduler|vocoder|codec|colorizer))?(\.init_args)?|trainer(\.\w+)?"
    r"|data(\.(guidance_scale|negative_prompts|sweep))?"
)
"""Keys whose value may be the name of a YAML file that holds it."""


def names_file(value: str, key: str) -> bool:
    """Whether the value of a key is the name of a YAML file."""
    return value.endswith((".yaml", ".yml")) and bool(_NAMES_FILE.fullmatch(key))


class FileReader:
    """Reads one config file, with the files that it names."""

    def __init__(self) -> None:
        self._left = MOST_FILES
        self._bytes_left = LARGEST_TOGETHER

    def read(self, path: Path) -> Values:
        """Content of a file or packaged config, with the content of other files in the place of their names.

        Raises:
            UserError: a file can't be read, is no mapping of keys, or names too many others.
        """
        values: Values = self._insert_files(self._content(path), path, "")
        return values

    def read_for(self, key: str, path: Path, *, named_by: Path | str) -> Any:
        """Content of a file in the place of a key's value: the value itself, or a mapping of the key alone to it.

        Raises:
            UserError: as `read`; or the file sets other keys too.
        """
        content: Any = self._content(path)
        if key in content:
            if others := [other for other in content if other != key]:
                raise UserError(
                    f"{named_by}: {key} names {path}, which sets {', '.join(others[:9])} too, beside {key}: "
                    f"overlay it as a whole with --config {path}"
                )
            content = content[key]
        return self._insert_files(content, path, key)

    def _insert_files(self, value: Any, path: Path, key: str) -> Any:
        """Replace names of YAML files by their content: files relative to the one that names them, or packaged ones."""
        if isinstance(value, dict):
            return {str(k): self._insert_files(v, path, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
        if key == "model" and isinstance(value, list):
            layers = [self._insert_files(item, path, key) for item in value]
            for layer in layers:
                if not isinstance(layer, dict):
                    raise UserError(f"{path}: {key} is a list with the item {layer!r:.80}; expected files and mappings")
            return reduce(merge, (spell_out(layer, key) for layer in layers), {})
        if not isinstance(value, str):
            return value
        if key == "data.prompts":
            beside = path.parent / user_path(value)
            return str(beside) if os.path.exists(beside) else value
        if not names_file(value, key):
            return value
        beside = path.parent / user_path(value)
        return self.read_for(key, beside if beside.exists() else find_packaged(value) or beside, named_by=path)

    def _content(self, path: Path) -> Values:
        if self._left == 0:
            raise UserError(f"{path}: more than {MOST_FILES} files are named in a config; does one contain itself?")
        self._left -= 1
        path = find_config(path)
        try:
            text = read_text(path, LARGEST)
            self._bytes_left -= len(text)
            if self._bytes_left < 0:
                raise UserError(
                    f"{path}: the files of this config have more than {LARGEST_TOGETHER:,} bytes together: write "
                    "prompts into a file of their own, and name each file once"
                )
            content = read_yaml(text)
        except OSError as error:
            raise UserError(f"{path}: the config can't be read ({error.strerror})") from None
        except UnicodeDecodeError as error:
            raise UserError(f"{path}: the config is not UTF-8 ({error.reason} at byte {error.start})") from None
        except yaml.YAMLError as error:
            raise UserError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
        if content is None:
            return {}
        if not isinstance(content, dict):
            raise UserError(f"{path}: expected keys such as model: and data:, got {type(content).__name__}")
        return content
