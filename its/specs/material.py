"""A user's own material for a sample: a start, a region to keep, control pictures, and the other end of a transition.

A row of prompts contains it under the keys `start`, `keep`, `control` and `interpolate`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from its.errors import UserError, nearest
from its.specs.media import KINDS, MediaPrompt, parse_media_prompt

KEYS = ("start", "keep", "control")
"""Keys of a row that `parse_material` reads."""
NUMBERS = ("start.strength", "control.scale")
"""Numbers of a sample's material that a sweep can change."""


@dataclass(kw_only=True)  # none is frozen, like SampleSpec
class Start:
    """Picture or sound that is noised and denoised again (SDEdit, Meng et al., arXiv 2108.01073).

    Attributes:
        file: picture or sound.
        strength: share of the reverse process to run; 1 ignores the file, 0 only encodes and decodes it.
    """

    file: MediaPrompt
    strength: float


@dataclass(kw_only=True)
class Control:
    """Picture that guides an expert through a control net.

    Attributes:
        file: picture.
        scale: strength; 1 as in the control net's training.
        edges: whether the edges of the picture are used, white on black.
    """

    file: MediaPrompt
    scale: float
    edges: bool


@dataclass(kw_only=True)
class Material:
    """The user's own material of a sample.

    Attributes:
        start: start of the reverse process; None to start from noise.
        keep: mask of the start's region that is kept, white where it is; None to keep nothing.
        controls: control pictures, one for each control net.
    """

    start: Start | None = None
    keep: MediaPrompt | None = None
    controls: Sequence[Control] = ()

    def __bool__(self) -> bool:
        return bool(self.start or self.controls)

    def describe(self) -> dict[str, Any]:
        """Return the material for records and ids, with files identified by content."""
        return self._to_row(lambda file: f"sha256:{file.sha256}")

    def row(self) -> dict[str, Any]:
        """Return the keys of a row that `parse_material` reads."""
        return self._to_row(lambda file: file.path)

    def _to_row(self, name: Callable[[MediaPrompt], str]) -> dict[str, Any]:
        row: dict[str, Any] = {}
        if self.start is not None:
            row["start"] = {self.start.file.kind: name(self.start.file), "strength": self.start.strength}
        if self.keep is not None:
            row["keep"] = {"mask": name(self.keep)}
        if self.controls:
            row["control"] = [{"image": name(c.file), "scale": c.scale, "edges": c.edges} for c in self.controls]
        return row


@dataclass(kw_only=True)
class Transition:
    """Other end of a transition from a spec's prompts and seed.

    Attributes:
        prompts: prompts of the other end.
        seed: seed of the other end; None for the spec's own.
        fraction: position between the spec (0) and the other end (1); None if the canvas changes from left to right.
    """

    prompts: Mapping[str, str]
    seed: int | None
    fraction: float | None

    def row(self) -> dict[str, Any]:
        """Return the value of the key `interpolate` of a row."""
        where = {"canvas": True} if self.fraction is None else {"fraction": self.fraction}
        return {"to": {**self.prompts, **({} if self.seed is None else {"seed": self.seed})}, **where}


def parse_material(row: Mapping[str, Any], *, beside: Path, source: str) -> Material:
    """Parse the keys `start`, `keep` and `control` of a row, and validate their files. Null values are ignored.

    Args:
        row: `start: {image: FILE, strength: 0.6}` or with `audio`; `keep: {mask: FILE}`; `control: {image: FILE,
            scale: 1.0, edges: false}`, or a list of these.
        beside: folder for relative paths; see `parse_media_prompt`.
        source: location of the row, for messages.

    Raises:
        UserError: a value has another form, or a file can't be read.
    """
    entries = {key: row[key] for key in KEYS if row.get(key) is not None}
    start, keep, controls = None, None, entries.get("control", [])
    if "start" in entries:
        where = f"{source}: start"
        entry = _mapping(entries["start"], where, (*KINDS, "strength"))
        strength = _number(entry, "strength", where, largest=1.0)
        start = Start(file=_file(entry, KINDS, beside, where), strength=strength)
    if "keep" in entries:
        where = f"{source}: keep"
        entry = _mapping(entries["keep"], where, ("mask",))
        if start is None:
            raise UserError(
                f"{where} needs `start`, the picture or sound that is kept: add start: {{image: FILE, strength: 1}}, "
                "or set keep to null"
            )
        if not isinstance(entry.get("mask"), str):
            raise UserError(f"{where}: got {entry!r:.80}; expected {{mask: FILE}}, white where the start is kept")
        keep = _file({"image": entry["mask"]}, ("image",), beside, where)
    result = []
    for entry in controls if isinstance(controls, list | tuple) else [controls]:
        where = f"{source}: control"
        entry = _mapping(entry, where, ("image", "scale", "edges"))
        edges = entry.get("edges", False)
        if str(edges).lower() not in ("true", "false"):
            raise UserError(f"{where}: edges is {edges!r:.80}; expected true or false")
        scale = _number(entry, "scale", where, default=1.0)
        result.append(
            Control(file=_file(entry, ("image",), beside, where), scale=scale, edges=str(edges).lower() == "true")
        )
    return Material(start=start, keep=keep, controls=result)


def with_number(material: Material, key: str, value: Any, source: str) -> Material:
    """Return the material with one of `NUMBERS` changed.

    Raises:
        UserError: the material has no such number, or the value is invalid.
    """
    name, _, field = key.partition(".")
    if name == "start" and material.start is not None:
        number = _number({field: value}, field, source, largest=1.0)
        return replace(material, start=replace(material.start, strength=number))
    if name == "control" and material.controls:
        number = _number({field: value}, field, source)
        return replace(material, controls=[replace(control, scale=number) for control in material.controls])
    raise UserError(f"{source}: {key} needs `{name}`, which this row does not have")


@dataclass(kw_only=True)
class Interpolation:
    """Parsed value of the key `interpolate`.

    Attributes:
        prompts: prompts of the other end; missing ones do not change.
        seed: seed of the other end; None if it does not change.
        fractions: positions of the samples, from 0 to 1; `[None]` for one canvas.
    """

    prompts: Mapping[str, str]
    seed: int | None
    fractions: Sequence[float | None]


NO_INTERPOLATION = Interpolation(prompts={}, seed=None, fractions=[0.0])

MOST_SAMPLES = 10_000
"""Maximum number of samples of a transition."""


def parse_interpolation(value: Any, experts: Sequence[str], source: str) -> Interpolation:
    """Parse `interpolate: {to: {EXPERT: PROMPT, seed: 2}, samples: 8}`, or with `canvas: true` or `fraction: 0.5`.

    Raises:
        UserError: the value has another form.
    """
    where = f"{source}: interpolate"
    entry = _mapping(value, where, ("to", "samples", "canvas", "fraction"))
    to = dict(_mapping(entry.get("to", {}), f"{where}.to", (*experts, "seed")))
    seed = to.pop("seed", None)
    if seed is not None:
        seed = _integer(seed, f"{where}.to.seed", 0, 2**63 - 1)
    for name, prompt in to.items():
        if not isinstance(prompt, str):
            raise UserError(f"{where}.to.{name} is {prompt!r:.80}; expected a prompt")
    if not to and seed is None:
        raise UserError(f"{where}.to is empty; expected prompts ({', '.join(experts)}) or a seed")
    values = {key: entry.get(key) for key in ("samples", "canvas", "fraction")}
    modes = [key for key, value in values.items() if value is not None and value is not False]  # 0 is a fraction
    if len(modes) != 1:
        raise UserError(f"{where}: got {modes or 'none'} of samples: N, canvas: true, fraction: 0.5; expected one")
    fractions: list[float | None] = [None]
    if modes == ["samples"]:
        count = _integer(entry["samples"], f"{where}.samples", 2, MOST_SAMPLES)
        fractions = [index / (count - 1) for index in range(count)]
    elif modes == ["fraction"]:
        fractions = [_number(entry, "fraction", where, largest=1.0)]
    elif str(entry["canvas"]).lower() != "true":
        raise UserError(f"{where}.canvas is {entry['canvas']!r:.80}; expected true")
    return Interpolation(prompts=to, seed=seed, fractions=fractions)


def _file(entry: Mapping[str, Any], kinds: Sequence[str], beside: Path, where: str) -> MediaPrompt:
    media = {key: value for key, value in entry.items() if key in kinds}
    if len(media) != 1:
        expected = " or ".join(f"{kind}: FILE" for kind in kinds)
        raise UserError(f"{where}: got {dict(entry)!r:.80}; expected {expected}")
    return parse_media_prompt(media, beside=beside, source=where)


def _mapping(value: Any, where: str, known: Sequence[str]) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise UserError(f"{where} is {value!r:.80}; expected a mapping of {', '.join(known)}")
    for key in value:
        if key not in known:
            raise UserError(f"{where}: unknown key {key}; expected {', '.join(known)}.{nearest(str(key), known)}")
    return value


def _number(
    entry: Mapping[str, Any], key: str, where: str, *, default: float | None = None, largest: float = math.inf
) -> float:
    try:
        number = float(entry.get(key, default))
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= largest or math.isinf(number) or isinstance(entry.get(key), bool):
        limit = "a number of at least 0" if math.isinf(largest) else f"a number from 0 to {largest:g}"
        given = f"is {entry[key]!r:.80}" if key in entry else "is missing"
        raise UserError(f"{where}: {key} {given}; expected {limit}")
    return number


def _integer(value: Any, where: str, smallest: int, largest: int) -> int:
    try:
        number = int(str(value))
    except ValueError:
        number = smallest - 1
    if not smallest <= number <= largest:
        raise UserError(f"{where} is {value!r:.80}; expected a whole number from {smallest} to {largest}")
    return number
