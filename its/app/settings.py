"""Translate the values of the page's form to arguments of `its.Pipeline.generate`, and files of samples to the form."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from its.app.material import material_of
from its.errors import UserError
from its.media.metadata import read_metadata

if TYPE_CHECKING:
    from its.pipeline import Pipeline

BALANCE = (5.0, 95.0)
"""Range of the balance, in percent. At 0 or 100 an expert would not run at all."""
LEAD = (-60.0, 60.0)
"""Range of the lead, in percent of the steps."""
VARIATIONS = (-20.0, -10.0, 10.0, 20.0)
"""Changes of the balance for "more like this", in percent."""
MOST_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Values of the form. Those that the pipeline's method does not have are None.

    Attributes:
        visual, audio: prompts of the picture and of the sound.
        not_visual, not_audio: negative prompts.
        seed: first seed.
        steps: number of steps.
        guidance_visual, guidance_audio: guidance scales.
        balance: weight of the sound's expert, in percent of both.
        lead: percent of the steps in which one expert begins alone: the sound's if positive, the picture's if negative.
    """

    visual: str = ""
    audio: str = ""
    not_visual: str = ""
    not_audio: str = ""
    seed: int = 0
    steps: int | None = None
    guidance_visual: float | None = None
    guidance_audio: float | None = None
    balance: float | None = None
    lead: float | None = None


def check_roles(pipeline: Pipeline) -> dict[str, str]:
    """Return the names of the experts of picture and sound, by "visual" and "audio".

    Raises:
        UserError: the pipeline lacks one of them.
    """
    roles = pipeline.method.roles()
    if missing := {"visual", "audio"} - roles.keys():
        raise UserError(
            f"the config's experts are {', '.join(pipeline.method.expert_names)}, none of which is {missing.pop()}; "
            "expected one for pictures and one for sounds, as in --config castle_bell"
        )
    return roles


def defaults_of(pipeline: Pipeline) -> Settings:
    """Return the settings of a pipeline's config, with its first prompts and seed."""
    from its.specs.prompts import DEFAULT_GUIDANCE_SCALE

    roles, data = check_roles(pipeline), pipeline.defaults
    rows = data.expand(pipeline.method.expert_names)[:1] if data.prompts else []
    first = rows[0] if rows else None
    visual, audio = roles["visual"], roles["audio"]
    scale = {**dict.fromkeys(roles.values(), DEFAULT_GUIDANCE_SCALE), **data.guidance_scale}
    process = getattr(pipeline.method, "process", None)
    found = {} if process is None else _combiner_settings(process.combiner.arguments, roles)
    settings = Settings(
        guidance_visual=scale[visual],
        guidance_audio=scale[audio],
        steps=None if process is None else process.steps,
        balance=found.get("balance"),
        lead=found.get("lead"),
    )
    if first is None:
        return settings
    return replace(
        settings,
        visual=first.prompts[visual],
        audio=first.prompts[audio],
        not_visual=first.negative_prompts[visual],
        not_audio=first.negative_prompts[audio],
        guidance_visual=first.guidance_scale[visual],
        guidance_audio=first.guidance_scale[audio],
        seed=first.seed,
    )


def arguments_of(
    settings: Settings, pipeline: Pipeline, *, seeds: Sequence[int], balances: Sequence[float] = ()
) -> dict[str, Any]:
    """Return the arguments of `Pipeline.generate`. Settings that equal the config's are left out, as are their sweeps.

    So samples have the ids that `its predict` gives them.

    Args:
        settings: values of the form.
        pipeline: pipeline that makes the samples.
        seeds: seeds of the samples.
        balances: balances of the samples, in place of the settings' one.

    Raises:
        UserError: a prompt is empty, or a value is out of range.
    """
    roles, defaults = check_roles(pipeline), defaults_of(pipeline)
    for name, text in (("picture", settings.visual), ("sound", settings.audio)):
        if not text.strip():
            raise UserError(f"the prompt of the {name} is empty: say what to make")
    visual, audio = roles["visual"], roles["audio"]
    others = {name: "" for name in pipeline.method.expert_names if name not in roles.values()}
    if others and pipeline.defaults.prompts:
        first = pipeline.defaults.expand(pipeline.method.expert_names)[0]
        others = {name: first.prompts[name] for name in others}
    scales = {visual: (settings.guidance_visual, 0.0, 100.0), audio: (settings.guidance_audio, 0.0, 100.0)}
    sweep: dict[str, list[Any]] = {}
    if settings.steps is not None and settings.steps != defaults.steps:
        sweep["steps"] = [int(_within(settings.steps, 1, MOST_STEPS, "the number of steps"))]
    wanted = [settings.balance] if not balances else list(balances)
    if defaults.balance is not None and wanted != [defaults.balance]:
        shares = [_within(value, *BALANCE, "the balance") / 100 for value in wanted if value is not None]
        sweep["combiner.weights"] = [{visual: round(1 - share, 4), audio: round(share, 4)} for share in shares]
    if defaults.lead is not None and settings.lead is not None and settings.lead != defaults.lead:
        lead = _within(settings.lead, *LEAD, "the lead") / 100
        sweep["combiner.t"] = [{visual: round(1 - max(lead, 0), 4), audio: round(1 + min(lead, 0), 4)}]
    return {
        "prompts": [{visual: settings.visual, audio: settings.audio, **others}],
        "seeds": list(seeds),
        "negative_prompts": {visual: settings.not_visual, audio: settings.not_audio},
        "guidance_scale": {
            name: _within(value, low, high, "guidance")
            for name, (value, low, high) in scales.items()
            if value is not None
        },
        "sweep": {key: values for key, values in sweep.items() if values},
    }


def read_settings(path: Path, pipeline: Pipeline) -> tuple[Settings, list[str]]:
    """Read the settings of a file that `its` wrote: a PNG, WAV, MP4 or `sample.json`.

    Returns:
        The settings, and what this page would do otherwise than the file says.

    Raises:
        UserError: the file has no metadata, or its experts are not those of the pipeline.
    """
    from its.runs.replay import read_config

    return settings_from(read_config(path), read_metadata(path).get("weights"), pipeline)


def settings_from(config: Mapping[str, Any], weights: Any, pipeline: Pipeline) -> tuple[Settings, list[str]]:
    """Return the settings of a sample's config, as `read_settings`.

    Args:
        config: config of one sample, from its record or metadata.
        weights: provenance of its weights.
        pipeline: pipeline of the page.
    """
    from its.weights.source import weights_identity

    roles, settings = check_roles(pipeline), defaults_of(pipeline)
    row, model, sweep = config["data"]["prompts"][0], _mapping(config["model"]), _mapping(config["data"].get("sweep"))
    texts = {}
    for role, name in roles.items():
        value = row.get(name) if isinstance(row, Mapping) else None
        texts[role] = value.get("prompt", "") if isinstance(value, Mapping) else value
        if not isinstance(texts[role], str):
            raise UserError(
                f"the file has no prompt of the expert {name}; expected one for {', '.join(roles.values())}"
            )
    notes = [f"its {key} is not in the form" for key in material_of(row)]
    notes += [f"its {name} was a file of its own" for name in roles.values() if isinstance(row[name], Mapping)]
    scale, negative = _mapping(row.get("guidance_scale")), _mapping(row.get("negative_prompts"))
    swept = {key: values[0] for key, values in sweep.items() if isinstance(values, list) and values}
    combiner = dict(_mapping(_mapping(model.get("combiner")).get("init_args")))
    for key, value in swept.items():
        name, _, inner = key.replace("init_args.", "").removeprefix("combiner.").partition(".")
        if key.startswith("combiner."):
            combiner[name] = {**_mapping(combiner.get(name)), inner: value} if inner else value
    restored = {
        "visual": texts["visual"],
        "audio": texts["audio"],
        "not_visual": str(negative.get(roles["visual"]) or ""),
        "not_audio": str(negative.get(roles["audio"]) or ""),
        "seed": _number(row.get("seed"), settings.seed),
        "guidance_visual": _number(scale.get(roles["visual"]), settings.guidance_visual),
        "guidance_audio": _number(scale.get(roles["audio"]), settings.guidance_audio),
    }
    if settings.steps is not None:
        restored["steps"] = _number(swept.get("steps", model.get("steps")), settings.steps)
    found = _combiner_settings(combiner, roles)
    restored |= {key: value for key, value in found.items() if getattr(settings, key) is not None}
    notes += _other_model(model, pipeline, {key.partition(".")[0] for key in swept})
    if weights_identity(weights) != weights_identity(pipeline.method.provenance):
        names = sorted({str(entry["name"]) for entry in _mapping(weights).values() if isinstance(entry, Mapping)})
        notes.append(f"it was made with other weights: {', '.join(names) or 'unknown'}")
    return replace(settings, **restored), notes


def balance_of(combiner: Any, roles: Mapping[str, str]) -> float | None:
    """Return the balance of a combiner that a record describes, or None if it has none."""
    found = _combiner_settings(_mapping(combiner), roles) if {"visual", "audio"} <= roles.keys() else {}
    return found.get("balance")


def _combiner_settings(arguments: Mapping[str, Any], roles: Mapping[str, str]) -> dict[str, float]:
    """Return `balance` and `lead` of a combiner's arguments; without those that it does not have."""
    settings, (visual, audio) = {}, (roles["visual"], roles["audio"])
    if "weights" in arguments:
        weights = _mapping(arguments["weights"])
        pair = [weights.get(name, 1.0) for name in (visual, audio)]
        if all(isinstance(weight, int | float) and weight >= 0 for weight in pair) and sum(pair) > 0:
            settings["balance"] = round(100 * pair[1] / sum(pair), 2)
    if isinstance(t := arguments.get("t"), Mapping):
        first, second = (t.get(name, 1.0) for name in (visual, audio))
        if isinstance(first, int | float) and isinstance(second, int | float):
            settings["lead"] = round(100 * (second - first), 2)
            settings.setdefault("balance", 50.0)
    return settings


def _other_model(model: Mapping[str, Any], pipeline: Pipeline, swept: set[str]) -> list[str]:
    """List the settings of a config's model that the form does not have and that differ from the pipeline's."""
    ours = _mapping(pipeline.config.get("model"))
    skipped = {"steps", "fallback", "experts", "combiner"} | {key for key in ours if key.startswith(("cuda", "stream"))}
    keys = [key for key in model if key not in skipped and (model[key] != ours.get(key) or key in swept)]
    kinds = [_mapping(each.get("combiner")).get("class_path") for each in (model, ours)]
    keys += ["combiner"] if kinds[0] != kinds[1] else []
    return [f"its {key} differs from this page's" for key in keys]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any, default: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return value if is_number else default


def _within(value: Any, low: float, high: float, name: str) -> float:
    if _number(value, None) is None or not low <= value <= high:
        raise UserError(f"{name} is {value!r:.40}; expected {low:g} to {high:g}")
    return float(value)
