"""What to make: prompts x seeds, with their settings, as rows for Lightning's predict loop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from its.errors import UserError, nearest
from its.media.packaged import find_file
from its.specs.media import own_file
from its.specs.prompt_files import read_prompts
from its.specs.spec import SampleSpec, assign_ids

DEFAULT_GUIDANCE_SCALE = 10.0
"""The paper's, for experts whose scale is not given."""

MOST_SAMPLES = 1_000_000
"""Samples of one run: rows x seeds x points of a sweep."""
LONGEST_PROMPT = 10_000
"""Characters. Text encoders read some hundred."""


@dataclass(frozen=True, kw_only=True)
class SeedRange:
    """`count` seeds from `start` on."""

    start: int
    count: int


AUTOMATIC = {"cuda": 16}
"""Samples at once by type of device: an H100 makes the paper's canvases hardly faster in batches of 16 than of 8."""
AUTOMATIC_ELSEWHERE = 2


class PromptGrid(LightningDataModule):
    """Every prompt with every seed.

    A row of prompts is a mapping from experts to their prompts. It may also set `seed` (or `seeds`),
    `negative_prompts` and `guidance_scale` for itself; in a CSV these columns are called `guidance_scale.visual`
    and so on. Some methods take `{image: FILE}` or `{audio: FILE}` instead of a prompt: see `its.specs.media`.
    """

    def __init__(
        self,
        *,
        prompts: str | list[dict[str, Any]] | dict[str, list[Any]],
        negative_prompts: dict[str, str] | None = None,
        seeds: list[int] | SeedRange | None = None,
        guidance_scale: dict[str, float] | None = None,
        sweep: dict[str, list[Any]] | None = None,
        batch_size: int | Literal["auto"] = "auto",
    ) -> None:
        """Args:
        prompts: rows; or a list of prompts for each expert, of which every combination is a row; or a file
            (JSONL, CSV or YAML) with either.
        negative_prompts: for each expert; empty where not given.
        seeds: a list, or `{start: 0, count: 100}`. The default is the single seed 0.
        guidance_scale: gamma for each expert; 10 where not given.
        sweep: values for settings, by key, such as `guidance_scale` (of all experts), `guidance_scale.visual`,
            `combiner.t.visual`, `scheduler` or `steps`. Every combination is made of every row.
        batch_size: samples that are made at once, or `auto`: up to 16 on a CUDA device, up to 2 elsewhere. A batch
            that does not fit into memory is halved.
        """
        super().__init__()
        self.allow_zero_length_dataloader_with_multiple_devices = True  # a rank may have no rows
        if batch_size != "auto" and batch_size < 1:
            raise UserError(f"data.batch_size is {batch_size}; expected 1 or more, or auto")
        self.prompts = prompts
        self.negative_prompts = negative_prompts or {}
        self.seeds = seeds if seeds is not None else [0]
        self.guidance_scale = guidance_scale or {}
        self.sweep = sweep or {}
        self.batch_size = batch_size
        self.largest = AUTOMATIC_ELSEWHERE if batch_size == "auto" else batch_size
        """Samples of a batch at most."""
        self.rows: list[SampleSpec] | None = None
        self.open_rows: Sequence[int] | None = None
        """Which of the rows are to be made, by index; None for all. What rank 0 says of it holds for every rank."""
        self.by_pair = False
        """Whether a batch is all that this rank makes of one pair of prompts; who asked for it looks after its size."""

    def fix_batch_size(self, device_type: str, *, one_by_one: bool = False) -> None:
        """Choose the automatic batch size.

        Args:
            device_type: such as `cuda`.
            one_by_one: whether batches gain nothing, and would only delay the first sample.
        """
        if self.batch_size == "auto":
            self.largest = 1 if one_by_one else AUTOMATIC.get(device_type, AUTOMATIC_ELSEWHERE)

    def expand(self, experts: Sequence[str]) -> list[SampleSpec]:
        """All rows, in the order of the sweep's points, then prompts, then seeds.

        Args:
            experts: names of those who need a prompt in every row.

        Raises:
            UserError: a file, row or key is not as it should be, or there are more than `MOST_SAMPLES`; the message
                names it.
        """
        for key, given in (
            ("negative_prompts", self.negative_prompts),
            ("guidance_scale", self.guidance_scale),
        ):
            _check_names(given, experts, f"data.{key}")
        rows = [self._row_of(entry, source, experts) for source, entry in _entries(self.prompts)]
        self._check_sweep(experts)
        points, samples = math.prod(map(len, self.sweep.values())), sum(len(seeds) for _, seeds in rows)
        _check_count(points * samples, f"{points} points of data.sweep x {samples} prompts and seeds")
        return [
            _at_point(replace(row, seed=seed), point)
            for point in self._points()
            for row, seeds in rows
            for seed in seeds
        ]

    def _check_sweep(self, experts: Sequence[str]) -> None:
        for key, values in self.sweep.items():
            if not isinstance(values, list) or not values:
                raise UserError(f"data.sweep: {key} is {values!r:.80}; expected a list of values")
            outer, dot, name = key.partition(".")
            if outer in _ROW_SETTINGS and dot:
                _check_names({name: None}, experts, f"data.sweep: {key}")

    def _points(self) -> list[dict[str, Any]]:
        """The sweep's grid. What keeps samples from sharing a batch changes slowest."""
        keys = sorted(self.sweep, key=lambda key: key.startswith((*_ROW_SETTINGS, "combiner")))
        return [dict(zip(keys, values, strict=True)) for values in itertools.product(*(self.sweep[k] for k in keys))]

    def setup(self, stage: str) -> None:
        """Expand the specs and assign their ids, unless that was done before."""
        if self.rows is None and self.trainer is not None:
            method: Any = self.trainer.lightning_module
            self.rows = assign_ids(self.expand(method.expert_names), method.definition)

    def predict_dataloader(self) -> DataLoader[SampleSpec]:
        """Batches of this rank's rows. Every row is on one rank; a rank may have none.

        Ranks that looked into the run folder at different times would share it out differently: rank 0 alone has
        looked, and tells the others. What is left of a run that was stopped is shared out evenly again.
        """
        rows = self.rows or []
        chosen: Sequence[int] = range(len(rows)) if self.open_rows is None else self.open_rows
        rank, ranks = 0, 1
        if self.trainer is not None:
            rank, ranks = self.trainer.global_rank, self.trainer.world_size
            chosen = self.trainer.strategy.broadcast(chosen)
        mine = [rows[index] for index in chosen[rank::ranks]]
        if self.by_pair:
            groups: dict[str, list[SampleSpec]] = {}
            for row in mine:
                groups.setdefault(row.pair, []).append(row)
            return DataLoader(list(groups.values()), batch_size=1, collate_fn=_only)  # type: ignore[arg-type]
        size = self.largest
        if self.batch_size == "auto" and mine:  # 18 samples in 9 and 9, not in 16 and 2
            size = math.ceil(len(mine) / math.ceil(len(mine) / size))
        return DataLoader(mine, batch_size=size, collate_fn=list)  # type: ignore[arg-type]

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Rows hold no tensors: leave them."""
        return batch

    def _row_of(
        self, entry: Mapping[str, Any], source: str, experts: Sequence[str]
    ) -> tuple[SampleSpec, Sequence[int]]:
        """The spec of a row with its first seed; and all its seeds."""
        entry = dict(entry)
        seeds = entry.pop("seeds", None)
        if "seed" in entry:
            seeds = [entry.pop("seed")]
        own = {key: entry.pop(key, {}) for key in ("negative_prompts", "guidance_scale")}
        for key, given in own.items():
            _check_names(given, experts, f"{source}: {key}")
        negative = {**self.negative_prompts, **own["negative_prompts"]}
        scale = {**self.guidance_scale, **own["guidance_scale"]}
        _check_names(entry, experts, source)
        beside = find_file(self.prompts).parent if isinstance(self.prompts, str) else Path()
        files = {
            name: own_file(value, beside=beside, source=f"{source}: {name}")
            for name, value in entry.items()
            if isinstance(value, Mapping)
        }
        entry |= {name: file.words for name, file in files.items()}
        for name in experts:
            if not isinstance(entry.get(name), str):
                raise UserError(
                    f"{source}: expert {name} needs a prompt, got {entry.get(name)!r}. "
                    f"A row looks like {{{', '.join(f'{n}: ...' for n in experts)}}}"
                )
            _check_text(entry[name], f"{source}: the prompt of {name}")
            _check_text(str(negative.get(name) or ""), f"{source}: the negative prompt of {name}")
        numbers = _seeds(self.seeds if seeds is None else seeds, source)
        row = SampleSpec(
            prompts={n: entry[n] for n in experts},
            negative_prompts={n: str(negative.get(n) or "") for n in experts},
            guidance_scale={n: _number(scale.get(n, DEFAULT_GUIDANCE_SCALE), n, source) for n in experts},
            seed=numbers[0],
            files=files,
            source=source,
        )
        return row, numbers


def _only(batch: list[list[SampleSpec]]) -> list[SampleSpec]:
    """The one group of a batch of groups."""
    (group,) = batch
    return group


_ROW_SETTINGS = ("guidance_scale", "negative_prompts")


def _at_point(row: SampleSpec, point: Mapping[str, Any]) -> SampleSpec:
    """A row with the settings of one point of the sweep."""
    own: dict[str, dict[str, Any]] = {key: dict(getattr(row, key)) for key in _ROW_SETTINGS}
    settings: dict[str, Any] = {}
    for key, value in point.items():
        outer, _, name = key.partition(".")
        if outer not in _ROW_SETTINGS:
            settings[key] = value
            continue
        for expert in [name] if name else own[outer]:
            number = outer == "guidance_scale"
            own[outer][expert] = _number(value, expert, f"data.sweep: {key}") if number else str(value)
    return replace(row, settings=settings, **own)  # type: ignore[arg-type]  # mypy can't see the keys


def _entries(
    prompts: str | list[dict[str, Any]] | dict[str, list[Any]],
) -> Iterable[tuple[str, Mapping[str, Any]]]:
    """(where it is written, row of prompts), one after the other."""
    origin, content = "data.prompts", prompts
    if isinstance(content, str):
        origin, content = content, read_prompts(find_file(content))
    if isinstance(content, Mapping):
        lists = {name: value if isinstance(value, list) else [value] for name, value in content.items()}
        _check_count(math.prod(map(len, lists.values())), f"all combinations of the prompts in {origin}")
        content = [dict(zip(lists, combination, strict=True)) for combination in itertools.product(*lists.values())]
    if not isinstance(content, list) or not content:
        raise UserError(f"{origin}: expected a list of rows such as {{visual: ..., audio: ...}}, got {content!r:.80}")
    for number, entry in enumerate(content, start=1):
        source = f"{origin}, row {number}"
        if not isinstance(entry, Mapping):
            raise UserError(f"{source}: expected a row such as {{visual: ..., audio: ...}}, got {entry!r:.80}")
        yield source, entry


def _check_names(given: Any, experts: Sequence[str], source: str) -> None:
    if not isinstance(given, Mapping):
        raise UserError(f"{source}: expected a value for each expert ({', '.join(experts)}), got {given!r:.80}")
    for name in given:
        if name not in experts:
            raise UserError(
                f"{source}: {name} is no expert; there are {', '.join(experts)}.{nearest(str(name), experts)}"
            )


def _check_text(text: str, what: str) -> None:
    if len(text) > LONGEST_PROMPT:
        raise UserError(f"{what} has {len(text):,} characters; expected {LONGEST_PROMPT:,} at most")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{what} is not text that can be written ({error})") from None


def _check_count(count: int, what: str) -> None:
    if count > MOST_SAMPLES:
        raise UserError(f"{what} make {count:,} samples; expected {MOST_SAMPLES:,} at most in one run")


def _seeds(seeds: Any, source: str) -> Sequence[int]:
    if isinstance(seeds, str):  # a CSV's column
        seeds = seeds.split()
    if isinstance(seeds, int):
        seeds = [seeds]
    try:
        if isinstance(seeds, Mapping) and seeds.keys() == {"start", "count"}:
            seeds = SeedRange(start=int(seeds["start"]), count=int(seeds["count"]))
        if isinstance(seeds, SeedRange):
            _check_count(seeds.count, f"{source}: the seeds")
            numbers: Sequence[int] = range(seeds.start, seeds.start + seeds.count)
        else:
            numbers = [int(str(seed)) for seed in seeds]
    except (TypeError, ValueError):
        raise UserError(f"{source}: seeds are {seeds!r:.80}; expected [1, 2, 3] or {{start: 0, count: 100}}") from None
    if not numbers:
        raise UserError(f"{source}: there are no seeds, so there is nothing to make")
    for wrong in (n for n in (min(numbers), max(numbers)) if not 0 <= n < 2**63):
        raise UserError(f"{source}: seed {wrong:.3g} is out of range; expected 0 to 2^63 - 1")
    return numbers


def _number(value: Any, name: str, source: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"{source}: guidance_scale of {name} is {value!r}; expected a number")
    return number
