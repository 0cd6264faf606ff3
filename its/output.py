"""Print and log to terminals, and format CSV, Markdown and LaTeX. Text from files is escaped."""

from __future__ import annotations

import csv
import io
import logging
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters except tab and newline, including those that begin escape sequences or change the direction."""

_FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""First characters of texts that spreadsheets interpret as formulas."""

_NUMBER = re.compile(r"[-+]?\d+(\.\d+)?(e[-+]?\d+)?")

_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def say(text: object) -> None:
    """Print a command's result to standard output, with control characters escaped."""
    print(visible(str(text)), flush=True)


def configure_logging(level: int) -> None:
    """Print messages of the logger `its` at this level or above to standard error.

    Only commands call this. In Python programs, the application configures logging.
    """
    logger = logging.getLogger("its")
    logger.handlers, logger.propagate = [_TerminalHandler()], False
    logger.setLevel(level)


class _TerminalHandler(logging.Handler):
    """Prints messages to the current `sys.stderr`, with control characters escaped."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a message; warnings are marked."""
        mark = "WARNING: " if record.levelno == logging.WARNING else ""
        try:
            print(visible(f"its: {mark}{record.getMessage()}"), file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - as logging's own handlers
            self.handleError(record)


def visible(text: str) -> str:
    """Replace control characters and halves of surrogate pairs by escapes such as `\\x1b`."""
    return _CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode("ascii"), text)


def comma_separated(rows: Iterable[Sequence[Any]]) -> str:
    """Format rows of numbers and texts as CSV. None is empty; formulas are prefixed with an apostrophe."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue()


def markdown_table(rows: Sequence[Sequence[str]], *, numbers: int = 0) -> str:
    """Format a Markdown table. The first row is the header; the last `numbers` columns are aligned right."""
    rule = ["---"] * (len(rows[0]) - numbers) + ["---:"] * numbers
    lines = [[_line(cell).replace("|", r"\|") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(row) + " |" for row in (lines[0], rule, *lines[1:]))


def tex(text: str) -> str:
    """Escape a text for LaTeX, in one line."""
    return re.sub(r"[\\~^&%$#_{}]", lambda match: _TEX.get(match[0], "\\" + match[0]), _line(text))


def tex_comment(text: str) -> str:
    """Format a LaTeX comment in one line."""
    return f"% {_line(text)}"


def markdown_item(text: str) -> str:
    """Format an item of a Markdown list in one line."""
    return f"- {_line(text)}"


def _line(text: str) -> str:
    return visible(" ".join(text.split()))


def _cell(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    text = visible(value)
    return f"'{text}" if text.startswith(_FORMULA) and not _NUMBER.fullmatch(text) else text
