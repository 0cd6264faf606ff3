"""Tabulate scores: a row for each group of samples, a column for each scorer with its weights and settings."""

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


@dataclass(frozen=True, kw_only=True)
class Table:
    """Mean scores of groups of samples.

    Attributes:
        keys: names of the columns that identify the groups.
        columns: names of the scorers.
        rows: values of the keys, and the estimate in each column (None without scores).
        missing: number of samples without a score, for each column.
        notes: description of each column.
        reference: reported figures in percent, by positions of row and column.
    """

    keys: Sequence[str]
    columns: Sequence[str]
    rows: Sequence[tuple[tuple[str, ...], Sequence[Estimate | None]]]
    missing: Sequence[int]
    notes: Sequence[str]
    reference: Mapping[tuple[int, int], str] = field(default_factory=dict)


def tabulate(samples: Sequence[StoredSample], by: Sequence[str]) -> Table:
    """Group samples, in the order of the groups' first samples, and estimate their mean scores.

    Args:
        samples: samples with scores.
        by: `run`, `method`, `prompt`, `prompt.NAME`, `seed`, or a setting, for example `guidance_scale.visual`.

    Raises:
        UserError: no sample has such a key, or none has a score.
    """
    groups: dict[tuple[str, ...], list[StoredSample]] = {}
    for sample in samples:
        groups.setdefault(tuple(_value(sample, key, samples) for key in by), []).append(sample)
    return estimate_groups(groups, keys=by)


def estimate_groups(groups: Mapping[tuple[str, ...], Sequence[StoredSample]], *, keys: Sequence[str]) -> Table:
    """Estimate the mean scores of groups of samples.

    Args:
        groups: samples by the values of the keys.
        keys: names of the columns that identify the groups.

    Raises:
        UserError: no sample has a score.
    """
    samples = [sample for group in groups.values() for sample in group]
    columns = _columns(samples)
    if not columns:
        raise UserError("no sample has a score: score the samples with `its evaluate`")
    rows = [(labels, [_estimate(group, column) for column in columns.values()]) for labels, group in groups.items()]
    missing = [sum(_score(sample, column) is None for sample in samples) for column in columns.values()]
    notes = [_note(label, column, count) for (label, column), count in zip(columns.items(), missing, strict=True)]
    return Table(keys=keys, columns=list(columns), rows=rows, missing=missing, notes=notes)


_Column = tuple[str, str]
"""Name of a scorer, and its modality, weights and settings as JSON."""


def _columns(samples: Sequence[StoredSample]) -> dict[str, _Column]:
    """Map labels to columns. A scorer with several weights or settings has several columns, which are numbered."""
    unique = {
        (name, _identity(entry))
        for sample in samples
        for name, entry in sample.mapping("scores").items()
        if _is_score(entry)
    }
    columns = sorted(unique, key=lambda column: (json.loads(column[1]).get("judges") != "visual", column))
    names = [name for name, _ in columns]
    return {
        name if names.count(name) == 1 else f"{name} {names[:i].count(name) + 1}": (name, identity)
        for i, (name, identity) in enumerate(columns)
    }


def _is_score(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "score" in entry


def _identity(entry: Mapping[str, Any]) -> str:
    return json.dumps({key: value for key, value in entry.items() if key != "score"}, sort_keys=True)


def _score(sample: StoredSample, column: _Column) -> float | None:
    name, identity = column
    entry = sample.mapping("scores").get(name) or {}
    return score_of(sample, name) if _is_score(entry) and _identity(entry) == identity else None


def _estimate(samples: Sequence[StoredSample], column: _Column) -> Estimate | None:
    scored = [(score, prompts_of(sample)) for sample in samples if (score := _score(sample, column)) is not None]
    return estimate([score for score, _ in scored], [prompts for _, prompts in scored])


def _note(label: str, column: _Column, missing: int) -> str:
    entry = json.loads(column[1])
    weights = entry["weights"] if isinstance(entry.get("weights"), Mapping) else {}
    digest = weights.get("revision") or weights.get("sha256") or ""
    note = f"{label}: {weights.get('name', 'no weights')}" + (f" ({digest!s:.12})" if digest else "")
    if entry.get("settings"):
        note += f", {entry['settings']}"
    if weights.get("embedded"):
        note += "; an embedded judge, neither CLIP nor CLAP: its scores can't be compared with theirs"
    return note + (f"; {missing} samples have no score" if missing else "")


def prompts_of(sample: StoredSample) -> str:
    """Join a sample's prompts into one text that identifies the prompt pair."""
    return " + ".join(str(text) for text in sample.mapping("prompts").values())


def _value(sample: StoredSample, key: str, samples: Sequence[StoredSample]) -> str:
    getters: dict[str, Callable[[], Any]] = {
        "run": lambda: sample.run.resolve().name,
        "method": lambda: method_of(sample),
        "prompt": lambda: prompts_of(sample),
        "seed": lambda: sample.record.get("seed"),
    }
    if key in getters:
        return str(getters[key]())
    settings = flat(sample.record)
    if key not in settings:
        known = {*getters, *(name for other in samples for name in flat(other.record))}
        if key not in known:
            raise UserError(
                f"--by {key}: no sample has this setting; expected one of {', '.join(sorted(known))}."
                f"{nearest(key, known)}"
            )
    return str(settings.get(key, "-"))


def method_of(sample: StoredSample) -> str:
    """Return the name of a sample's method; `NAME alone` if the combiner's weights are 0 for all experts but one."""
    settings = sample.mapping("settings")
    combiner = settings.get("combiner")
    weights = combiner.get("weights") if isinstance(combiner, Mapping) else None
    if isinstance(weights, Mapping) and all(isinstance(weight, int | float) for weight in weights.values()):
        active = [name for name, weight in weights.items() if weight]
        if len(active) == 1 < len(weights):
            return f"{active[0]} alone"
    return str(settings.get("method", "?"))


def flat(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's prompts and settings by dotted key. Nested mappings are also included as values."""
    values: dict[str, Any] = {f"prompt.{name}": text for name, text in record.get("prompts", {}).items()}

    def walk(value: Any, key: str) -> None:
        if key:
            values[key] = value
        if isinstance(value, Mapping):
            for name, inner in value.items():
                walk(inner, f"{key}.{name}" if key else str(name))

    walk(record.get("settings", {}), "")
    return values


def markdown(table: Table) -> str:
    """Format a table in Markdown, in percent, with notes below."""
    rows = _text_rows(table)
    numbers = len(rows[0]) - len(table.keys)
    return "\n".join([markdown_table(rows, numbers=numbers), "", *map(markdown_item, _notes(table))])


def latex(table: Table) -> str:
    """Format a table as a LaTeX tabular, in percent, with notes in comments above."""
    rows = _text_rows(table)
    body = [" & ".join(tex(text) for text in row) + r" \\" for row in rows]
    columns = "l" * len(table.keys) + "r" * (len(rows[0]) - len(table.keys))
    head = [*map(tex_comment, _notes(table)), rf"\begin{{tabular}}{{{columns}}}", r"\hline", body[0], r"\hline"]
    return "\n".join([*head, *body[1:], r"\hline", r"\end{tabular}"])


def csv(table: Table) -> str:
    """Format a table as CSV, not in percent."""
    kinds = ("mean", "interval", "bootstrap_low", "bootstrap_high", "n", "prompts")
    rows: list[list[Any]] = [[*table.keys, *(f"{column}.{kind}" for column in table.columns for kind in kinds)]]
    for labels, estimates in table.rows:
        rows.append([*labels])
        for e in estimates:
            rows[-1] += [e.mean, e.interval, e.low, e.high, e.n, e.prompts] if e else [None] * len(kinds)
    return comma_separated(rows).rstrip("\n")


FORMATS: dict[str, Callable[[Table], str]] = {"md": markdown, "csv": csv, "latex": latex}


def _notes(table: Table) -> list[str]:
    return ["mean (1.96 std / sqrt(n)) [95 % interval of a bootstrap over prompts]", *table.notes]


def _text_rows(table: Table) -> list[list[str]]:
    """Return the head and the rows as text, in percent, with the reported figures beside their columns."""
    reported = {position for _, position in table.reference}
    rows = [[*table.keys, "n"]]
    for position, column in enumerate(table.columns):
        rows[0] += [f"{column} %", *(["paper's %"] if position in reported else [])]
    for number, (labels, estimates) in enumerate(table.rows):
        rows.append([*labels, str(max((e.n for e in estimates if e), default=0))])
        for position, e in enumerate(estimates):
            rows[-1].append(_percent(e))
            if position in reported:
                rows[-1].append(table.reference.get((number, position), "-"))
    return rows


def _percent(e: Estimate | None) -> str:
    if e is None:
        return "-"
    text = f"{100 * e.mean:.1f} ({100 * e.interval:.1f})"
    return text if e.low is None or e.high is None else f"{text} [{100 * e.low:.1f}, {100 * e.high:.1f}]"
