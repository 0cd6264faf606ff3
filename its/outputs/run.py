"""The run folder: the config that made it, and what came of every row."""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from its.data import Row
from its.errors import UserError
from its.outputs.sample import read_record
from its.outputs.writer import versions

CONFIG = "its_config.yaml"
_SECRET = re.compile(r"(?i)(api_?key|token|secret|password|credential)")


def check_writable(output: Path) -> None:
    """Make the run folder.

    Raises:
        UserError: it can't be made or written to.
    """
    try:
        (output / "samples").mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output / "samples"):  # a name of its own: others may be at it too
            pass
    except OSError as error:
        raise UserError(f"output is {output}: it can't be written to ({error.strerror})") from None


def mention_others(output: Path, work: Sequence[tuple[Row, str]]) -> None:
    """Say how many samples of other settings lie in the run folder, and that nothing happens to them."""
    ours = {name for _, name in work}
    others = [path for path in (output / "samples").glob("*/sample.json") if path.parent.name not in ours]
    if others:
        print(f"its: {len(others)} samples of other settings in {output / 'samples'} stay as they are", file=sys.stderr)


def save_config(cli: Any, output: Path) -> None:
    """Write the resolved config with the versions it ran on; secrets never.

    Raises:
        UserError: it can't be written.
    """
    config = yaml.safe_load(cli.parser.dump(cli.config, skip_unset=False))
    config.pop("config", None)
    header = "".join(f"# {package} {number}\n" for package, number in versions().items())
    text = header + yaml.safe_dump(_without_secrets(config), sort_keys=False, allow_unicode=True)
    try:
        (output / CONFIG).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output / CONFIG} can't be written: {error.strerror}") from None


def report(output: Path, work: Sequence[tuple[Row, str]], *, made: int) -> int:
    """Say in one line what there is now, and name every row that failed.

    Returns:
        0 when every sample is there, 1 when some are not.
    """
    failed = []
    for row, name in work:
        record = read_record(output / "samples" / name) or {"error": "it was not written"}
        if record.get("status") != "ok":
            failed.append(f"its: failed: {row.source}, seed {row.seed} ({name}): {record.get('error')}")
    for line in failed:
        print(line, file=sys.stderr)
    whole = len(work) - len(failed)
    earlier = f", {len(work) - made} of them from an earlier run" if made < len(work) else ""
    print(f"its: {whole} of {len(work)} images that sound are in {output / 'samples'}{earlier}", flush=True)
    return 1 if failed else 0


def _without_secrets(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {k: _without_secrets(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_secrets(v) for v in value]
    return "(left out)" if isinstance(value, str) and _SECRET.search(key) else value
