"""Read YAML config files, and insert the files that they reference as values."""

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
"""Maximum bytes of one config file. Parsing one MiB of YAML takes some seconds."""
LARGEST_TOGETHER = 4 * LARGEST
"""Maximum bytes of all files of a config; a file counts again for each reference."""
MOST_FILES = 100
"""Maximum files of a config; a file counts again for each reference."""

_FILE_KEYS = re.compile(
    r"model(\.(experts(\.[^.]+)?|combiner|scheduler|vocoder|codec|colorizer))?(\.init_args)?|trainer(\.\w+)?"
    r"|data(\.(guidance_scale|negative_prompts|sweep))?"
)
"""Keys whose value may be the path of a YAML file with the actual value."""


def is_file_reference(value: str, key: str) -> bool:
    """Whether the value of a key is the path of a YAML file to insert."""
    return value.endswith((".yaml", ".yml")) and bool(_FILE_KEYS.fullmatch(key))


class FileReader:
    """Reads a config file and the files that it references, within limits."""

    def __init__(self) -> None:
        self._files_left = MOST_FILES
        self._bytes_left = LARGEST_TOGETHER

    def read(self, path: Path) -> Values:
        """Read a config file or packaged config, and insert the files that it references.

        Raises:
            UserError: a file can't be read, is not a mapping, or the files exceed a limit.
        """
        values: Values = self._insert_files(self._content(path), path, "")
        return values

    def read_for(self, key: str, path: Path, *, origin: Path | str) -> Any:
        """Read the file referenced by a key. It contains the value itself, or a mapping with only that key.

        Raises:
            UserError: as `read`, or the file also sets other keys.
        """
        content: Any = self._content(path)
        if key in content:
            if others := [other for other in content if other != key]:
                raise UserError(
                    f"{origin}: {key} is the file {path}, which also sets {', '.join(others[:9])}; expected only "
                    f"{key}. To apply all keys of the file, use --config {path}"
                )
            content = content[key]
        return self._insert_files(content, path, key)

    def _insert_files(self, value: Any, path: Path, key: str) -> Any:
        """Replace paths of YAML files, relative to the referencing file or packaged, by the files' content."""
        if isinstance(value, dict):
            return {str(k): self._insert_files(v, path, f"{key}.{k}".lstrip(".")) for k, v in value.items()}
        if key == "model" and isinstance(value, list):
            layers = [self._insert_files(item, path, key) for item in value]
            for layer in layers:
                if not isinstance(layer, dict):
                    raise UserError(f"{path}: {key} has the item {layer!r:.80}; expected only YAML files and mappings")
            return reduce(merge, (spell_out(layer, key) for layer in layers), {})
        if not isinstance(value, str) or not (key == "data.prompts" or is_file_reference(value, key)):
            return value
        beside = path.parent / user_path(value)
        if key == "data.prompts":
            return str(beside) if os.path.exists(beside) else value
        return self.read_for(key, beside if beside.exists() else find_packaged(value) or beside, origin=path)

    def _content(self, path: Path) -> Values:
        if self._files_left == 0:
            raise UserError(f"{path}: a config may include {MOST_FILES} files at most; check that none includes itself")
        self._files_left -= 1
        path = find_config(path)
        try:
            text = read_text(path, LARGEST)
            self._bytes_left -= len(text)
            if self._bytes_left < 0:
                raise UserError(
                    f"{path}: the files of this config exceed {LARGEST_TOGETHER:,} bytes in total; move prompts to a "
                    "file for data.prompts, and include each file once"
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
