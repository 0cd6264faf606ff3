"""Tables of scores: samples in groups, a row each; a column for each scorer, so that no two are mixed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from its.errors import UserError, nearest
from its.evaluation.scoring import score_of
from its.evaluation.statistics import Estimate, estimate
from its.output import comma_separated, markdown_item, markdown_table, tex, tex_comment
from its.runs.reader import StoredSample

OWN_KEYS = ("run", "method", "prompt", "seed")
"""What samples can be grouped by besides their settings and single prompts."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """Scores of groups of samples.

    Attributes:
        keys: what the groups are told apart by.
        columns: scorers.
        rows: the value of each key, and the estimate in each column, None where nothing has a score.
        missing: how many samples each column has no score of.
        notes: what the columns are.
        reference: what others reported for a row and a column, by their position, in percent.
    """

    keys: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[tuple[str, ...], Sequence[Estimate | None]]]
    missing: Sequence[int]
    notes: Sequence[str]
    reference: Mapping[tuple[int, int], str] = field(default_factory=dict)


def tabulate(samples: Sequence[StoredSample], by: Sequence[str]) -> Table:
    """Group samples, in the order of their first ones.

    Args:
        samples: scored.
        by: `run`, `method`, `prompt`, `prompt.NAME`, `seed`, or a setting such as `guidance_scale.visual`.

    Raises:
        UserError: no sample has such a key, or nothing is scored.
    """
    groups: dict[tuple[str, ...], list[StoredSample]] = {}
    for found in samples:
        groups.setdefault(tuple(_value(found, key, samples) for key in by), []).append(found)
    return labelled(groups, keys=by)


def labelled(groups: Mapping[tuple[str, ...], Sequence[StoredSample]], *, keys: Sequence[str]) -> Table:
    """A table of groups of samples.

    Args:
        groups: by the value of each key.
        keys: what the groups are told apart by.

    Raises:
        UserError: nothing is scored.
    """
    samples = [found for some in groups.values() for found in some]
    columns = _columns(samples)
    if not columns:
        raise UserError("no sample has a score: its evaluate gives them some")
    rows = [(labels, [_estimate(some, wanted) for wanted in columns.values()]) for labels, some in groups.items()]
    missing = [sum(_score(found, wanted) is None for found in samples) for wanted in columns.values()]
    notes = [_note(label, wanted, lost) for (label, wanted), lost in zip(columns.items(), missing, strict=True)]
    return Table(keys=keys, columns=list(columns), rows=rows, missing=missing, notes=notes)


_Column = tuple[str, str]
"""A scorer's name, and what its scores depend on, as JSON."""


def _columns(samples: Sequence[StoredSample]) -> dict[str, _Column]:
    """Label -> column. One name with several weights or settings makes several columns, never one."""
    found: dict[_Column, None] = {}
    for sample in samples:
        found |= {(name, _identity(entry)): None for name, entry in sample.part("scores").items() if _is_score(entry)}
    wanted = sorted(found, key=lambda column: (_entry(column).get("judges") != "visual", column))
    names = [name for name, _ in wanted]
    return {
        name if names.count(name) == 1 else f"{name} {names[:i].count(name) + 1}": (name, identity)
        for i, (name, identity) in enumerate(wanted)
    }


def _is_score(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "score" in entry


def _identity(entry: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in entry.items() if key != "score"}, sort_keys=True)


def _entry(column: _Column) -> dict[str, Any]:
    return dict(json.loads(column[1]))


def _score(found: StoredSample, column: _Column) -> float | None:
    name, identity = column
    entry = found.part("scores").get(name) or {}
    return score_of(found, name) if _is_score(entry) and _identity(entry) == identity else None


def _estimate(some: Sequence[StoredSample], column: _Column) -> Estimate | None:
    scores = [(score, found) for found in some if (score := _score(found, column)) is not None]
    return estimate([score for score, _ in scores], [prompts_of(found) for _, found in scores])


def _note(label: str, column: _Column, missing: int) -> str:
    entry = _entry(column)
    weights = entry["weights"] if isinstance(entry.get("weights"), Mapping) else {}
    which = weights.get("revision") or weights.get("sha256") or ""
    said = f"{label}: {weights.get('name', 'no weights')}" + (f" ({which!s:.12})" if which else "")
    if entry.get("settings"):
        said += f", {entry['settings']}"
    if weights.get("embedded"):
        said += "; an embedded judge, neither CLIP nor CLAP: not to be compared with their scores"
    return said + (f"; {missing} samples have no score" if missing else "")


def prompts_of(found: StoredSample) -> str:
    """A sample's prompts, as one text that tells prompt pairs apart."""
    return " + ".join(str(text) for text in found.part("prompts").values())


def _value(found: StoredSample, key: str, samples: Sequence[StoredSample]) -> str:
    own: dict[str, Callable[[], Any]] = {
        "run": lambda: found.run.resolve().name,
        "method": lambda: method_of(found),
        "prompt": lambda: prompts_of(found),
        "seed": lambda: found.record.get("seed"),
    }
    if key in own:
        return str(own[key]())
    settings = flat(found.record)
    if key not in settings:
        known = {*own, *(name for sample in samples for name in flat(sample.record))}
        if key not in known:
            raise UserError(
                f"--by {key}: samples have no such setting; there are {', '.join(sorted(known))}.{nearest(key, known)}"
            )
    return str(settings.get(key, "-"))


def method_of(found: StoredSample) -> str:
    """What made a sample; where one expert's weight alone isn't 0, which one that is."""
    settings = found.part("settings")
    combiner = settings.get("combiner")
    weights = combiner.get("weights") if isinstance(combiner, Mapping) else None
    if isinstance(weights, Mapping) and all(isinstance(weight, int | float) for weight in weights.values()):
        heard = [name for name, weight in weights.items() if weight]
        if len(heard) == 1 < len(weights):
            return f"{heard[0]} alone"
    return str(settings.get("method", "?"))


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Settings and prompts by their dotted keys, mappings too."""
    found: dict[str, Any] = {f"prompt.{name}": text for name, text in record.get("prompts", {}).items()}

    def walk(value: Any, key: str) -> None:
        if key:
            found[key] = value
        if isinstance(value, Mapping):
            for name, inner in value.items():
                walk(inner, f"{key}.{name}" if key else str(name))

    walk(record.get("settings", {}), "")
    return found


def markdown(table: Table) -> str:
    """A Markdown table, percentages, with what the columns are below it."""
    rows = [[*table.keys, *_headings(table, "%")], *([*labels, *values] for labels, values in _cells(table))]
    return "\n".join([markdown_table(rows, numbers=_width(table)), "", *map(markdown_item, _notes(table))])


def latex(table: Table) -> str:
    """A tabular, percentages, with what the columns are in comments."""
    cells = [[*table.keys, *_headings(table, "%")], *([*labels, *values] for labels, values in _cells(table))]
    body = [" & ".join(tex(text) for text in row) + r" \\" for row in cells]
    columns = "l" * len(table.keys) + "r" * _width(table)
    head = [*map(tex_comment, _notes(table)), rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0], r"\hline"]
    return "\n".join([*head, *body[1:], r"\hline", r"\end{tabular}"])


def csv(table: Table) -> str:
    """A CSV of plain numbers, not percentages."""
    kinds = ("mean", "interval", "bootstrap_low", "bootstrap_high", "n", "prompts")
    rows: list[list[Any]] = [[*table.keys, *(f"{column}.{kind}" for column in table.columns for kind in kinds)]]
    for labels, found in table.rows:
        numbers = [(e.mean, e.interval, e.low, e.high, e.n, e.prompts) if e else (None,) * len(kinds) for e in found]
        rows.append([*labels, *(n for some in numbers for n in some)])
    return comma_separated(rows).rstrip("\n")


def _notes(table: Table) -> list[str]:
    return ["mean (1.96 std / sqrt(n)) [95 % of a bootstrap over prompts]", *table.notes]


FORMATS: dict[str, Callable[[Table], str]] = {"md": markdown, "csv": csv, "latex": latex}


def _width(table: Table) -> int:
    return len(_headings(table, ""))


def _headings(table: Table, percent: str) -> list[str]:
    headings = ["n"]
    for position, column in enumerate(table.columns):
        headings.append(f"{column} {percent}")
        if position in _with_reference(table):
            headings.append(f"paper's {percent}")
    return headings


def _with_reference(table: Table) -> set[int]:
    """Columns that others reported something for."""
    return {position for _, position in table.reference}


def _cells(table: Table) -> list[tuple[tuple[str, ...], list[str]]]:
    rows = []
    for number, (labels, found) in enumerate(table.rows):
        values = [str(max((e.n for e in found if e), default=0))]
        for position, entry in enumerate(found):
            values.append(_percent(entry))
            if position in _with_reference(table):
                values.append(table.reference.get((number, position), "-"))
        rows.append((labels, values))
    return rows


def _percent(found: Estimate | None) -> str:
    if found is None:
        return "-"
    text = f"{100 * found.mean:.1f} ({100 * found.interval:.1f})"
    if found.low is None or found.high is None:
        return text
    return f"{text} [{100 * found.low:.1f}, {100 * found.high:.1f}]"
