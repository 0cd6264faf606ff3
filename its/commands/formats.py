"""The options of `its sonify` and `its spectrogram` that say how a picture sounds, and where files go."""

from __future__ import annotations

import argparse
import math
from dataclasses import replace
from pathlib import Path

from its import registry
from its.audio.spectrogram import SpectrogramFormat
from its.errors import UserError, by_nearness, nearest

DEFAULT = "Auffusion"

LONGEST = 600.0
"""Seconds that a picture may last; ten minutes of sound are a picture of 60,000 columns."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add `--format`, the range of frequencies, and `--overwrite`."""
    parser.add_argument("--format", default=DEFAULT, help=f"an expert whose spectrograms it is like ({DEFAULT})")
    parser.add_argument("--f_min", type=float, metavar="HZ", help="what the lowest row is, instead of the format's")
    parser.add_argument("--f_max", type=float, metavar="HZ", help="what the highest row is, instead of the format's")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")


def chosen_format(options: argparse.Namespace) -> SpectrogramFormat:
    """The format that the options say.

    Raises:
        UserError: there is no such format, or no such range of frequencies.
    """
    registry.load_plugins()
    known = _formats()
    if options.format not in known:
        raise UserError(
            f"--format is {options.format!r}; experts with a spectrogram: "
            f"{', '.join(by_nearness(options.format, known))}.{nearest(options.format, known)}"
        )
    form = known[options.format]
    low = form.f_min if options.f_min is None else options.f_min
    high = form.f_max if options.f_max is None else options.f_max
    if not 0 <= low < high <= form.sample_rate / 2:
        raise UserError(
            f"the frequencies are {low:g} to {high:g} Hz; expected 0 or more, rising, and at most half of "
            f"{options.format}'s sample rate, {form.sample_rate / 2:g} Hz"
        )
    return replace(form, f_min=low, f_max=high)


def check_seconds(option: str, seconds: float) -> None:
    """Refuse durations that make no sense.

    Raises:
        UserError: it is not above 0, or above `LONGEST`.
    """
    if not (math.isfinite(seconds) and 0 < seconds <= LONGEST):
        raise UserError(f"{option} is {seconds:g} s; expected more than 0 and at most {LONGEST:g}")


def target(options: argparse.Namespace, source: Path, suffix: str) -> Path:
    """Where the result goes: what `--output` says, or the name of the source, here, with another ending.

    Raises:
        UserError: there is a file already, or the ending is another.
    """
    path: Path = options.output or Path(f"{source.stem}{suffix}")
    if path.suffix.lower() != suffix[suffix.rindex(".") :]:
        raise UserError(f"--output is {path}; expected a name ending in {suffix[suffix.rindex('.') :]}")
    check_free(path, overwrite=options.overwrite)
    return path


def check_free(path: Path, *, overwrite: bool) -> None:
    """Refuse to replace a file that nobody spoke of, and folders that are not there.

    Raises:
        UserError: it is there, or can't be.
    """
    if path.is_dir() or (path.exists() and not overwrite):
        raise UserError(f"{path} is there already; give another --output, or --overwrite")
    if not path.parent.is_dir():
        raise UserError(f"there is no folder {path.parent} for {path.name}")


def _formats() -> dict[str, SpectrogramFormat]:
    """Of the registered experts, by their class; those that need arguments to say it are left out."""
    found = {}
    for name, cls in registry.classes("NoiseExpert").items():
        form = getattr(cls, "format", None)
        if form is None:
            try:
                form = cls().format
            except (TypeError, ValueError):
                continue
        if isinstance(form, SpectrogramFormat):
            found[name] = form
    return found
