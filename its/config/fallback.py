"""A pack of weights in the place of a config's own: which of its experts stands for which, with what settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from its.errors import UserError
from its.registry import Pack
from its.weights import WeightsNotFound

Config = dict[str, Any]


def warning(missing: WeightsNotFound, pack: Pack, *, instead: str, settings: str) -> str:
    """The line that says that a pack's weights are used, why, and what helps.

    Args:
        missing: the weights that the config names.
        pack: that is used.
        instead: what of the pack is used, such as `demo weights`.
        settings: what else differs from the config.
    """
    return (
        f"its: WARNING: using the embedded {instead} ({pack.name}: {pack.summary}), not the ones in the config: "
        f"{missing.reason}. {settings} What helps: {missing.remedy}; or --model.fallback null, to make this an error."
    )


def refused(missing: WeightsNotFound) -> UserError:
    """The error for missing weights where no pack may be used."""
    return UserError(f"{missing}. Or use the embedded demo weights: --model.fallback mini")


def stand_in(pack: Config, experts: Mapping[str, Any], *, combiner: Any) -> Config:
    """A pack's overlay for a config of other experts than the pack's own.

    Each expert becomes the pack's one of its class, or else of its name; of a wrapper, the expert within does. What
    the pack sets by names of experts (weights, scales) goes to all that one of them stands for. Its combiner balances
    its own experts, so it is left out where the config has another class of combiner, or not all of them have a part.

    Args:
        pack: the overlay.
        experts: of the config, by name; if there are none, the pack's own are kept.
        combiner: of the config, with its `class_path`.

    Raises:
        UserError: the pack has nothing for an expert.
    """
    theirs = pack["model"]["experts"]
    found = {name: _one(name, expert, theirs) for name, expert in (experts or theirs).items()}
    names = {name: other for name, (_, other) in found.items()}
    model = {key: _by_name(value, names) for key, value in pack["model"].items()}
    model["experts"] = {name: expert for name, (expert, _) in found.items()}
    its_combiner = model.pop("combiner", {})
    same_class = not isinstance(combiner, dict) or combiner.get("class_path") == its_combiner.get("class_path")
    if its_combiner and same_class and set(names.values()) == set(theirs):
        arguments = its_combiner.get("init_args") or {}
        given = {key: _by_name(value, names) for key, value in arguments.items()}
        model["combiner"] = its_combiner | {"init_args": given}
    data = {key: _by_name(value, names) for key, value in pack.get("data", {}).items()}
    return pack | {"model": model, "data": data}


def _one(name: str, expert: Any, theirs: Config) -> tuple[Any, str]:
    """(what stands in for an expert, the pack's name of it)."""
    class_path = expert.get("class_path")
    for other, candidate in theirs.items():
        if candidate["class_path"] == class_path:
            return candidate, other
    arguments = expert.get("init_args") or {}
    if isinstance(inner := arguments.get("expert"), dict):
        wrapped, other = _one(name, inner, theirs)
        return expert | {"init_args": arguments | {"expert": wrapped}}, other
    if name in theirs:
        return theirs[name], name
    known = ", ".join(f"{other} ({candidate['class_path']})" for other, candidate in theirs.items())
    raise UserError(
        f"the weights can't be had, and the pack can't stand in for them: it has the experts {known}, "
        f"but nothing for {name} ({class_path}). Give the weights of all experts"
    )


def _by_name(value: Any, names: Mapping[str, str]) -> Any:
    """What is set for the pack's experts -> for those that they stand for."""
    if not isinstance(value, dict) or not value.keys() & set(names.values()):
        return value
    return {name: value[other] for name, other in names.items() if other in value}
