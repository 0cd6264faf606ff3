"""Which scorers are asked: by their names, with their arguments, or a pack's where theirs can't be had."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from its import registry
from its.errors import UserError, by_nearness, nearest
from its.interfaces import Scorer
from its.weights import WeightsNotFound

DEFAULT = ("CLIPScorer", "CLAPScorer")
"""The paper's."""


def chosen(names: Sequence[Any], settings: Sequence[str] = ()) -> list[Scorer]:
    """Scorers, not yet prepared.

    Args:
        names: of scorers, or of packs that bring some; or mappings of `class_path` and `init_args`.
        settings: `NAME.ARGUMENT=VALUE`, which change arguments of theirs.

    Raises:
        UserError: there is no such scorer, or it takes no such argument.
    """
    specs: dict[str, dict[str, Any]] = {}
    for name in names:
        for class_name, arguments in _spelled_out(name):
            if class_name in specs:
                raise UserError(f"scorer {class_name} is given twice; one of a class is asked")
            specs[class_name] = arguments
    for setting in settings:
        key, equals, value = setting.partition("=")
        class_name, dot, argument = key.partition(".")
        if not (equals and dot and argument):
            raise UserError(f"--set {setting}: expected NAME.ARGUMENT=VALUE, such as CLIPScorer.weights=FOLDER")
        if class_name not in specs:
            asked = ", ".join(specs)
            raise UserError(f"--set {setting}: the scorers are {asked}.{nearest(class_name, specs)}")
        specs[class_name][argument] = yaml.safe_load(value)
    if not specs:
        raise UserError("no scorers are named")
    return [_built(class_name, arguments) for class_name, arguments in specs.items()]


def found(scorers: Sequence[Scorer], *, fallback: str | None) -> list[Scorer]:
    """Find the scorers' weights; where they are missing, take all scorers of a pack instead, if that is allowed.

    Args:
        scorers: the ones that are wanted.
        fallback: name of a pack; None for an error.

    Returns:
        Scorers that were found, and not yet downloaded.

    Raises:
        UserError: weights are missing, and there is no fallback.
    """
    name, missing = "", None
    for scorer in scorers:
        name = type(scorer).__name__
        try:
            scorer.find()
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        except WeightsNotFound as error:
            missing = error.prefixed(name)
            break
    if missing is None:
        return list(scorers)
    if fallback is None:
        raise UserError(
            f"{missing}. Or name a folder: --set {name}.weights=FOLDER; or take the embedded judge, which is neither "
            "CLIP nor CLAP and knows the embedded pack's prompts alone: --scorers mini"
        )
    instead = chosen([fallback])
    for scorer in instead:
        scorer.find()
    names = ", ".join(type(scorer).__name__ for scorer in instead)
    print(
        f"its: WARNING: scoring with {names} of the embedded pack {fallback}, not with the scorers in the config: "
        f"{missing.reason}. Their scores can't be compared with CLIP's and CLAP's, and have columns of their own. "
        f"What helps: {missing.remedy}.",
        file=sys.stderr,
        flush=True,
    )
    return instead


def _spelled_out(name: Any) -> list[tuple[str, dict[str, Any]]]:
    """(class name, arguments) of what a name stands for; packs stand for several."""
    if isinstance(name, str) and name.lstrip().startswith("{"):
        name = yaml.safe_load(name)
    if isinstance(name, Mapping):
        others = set(name) - {"class_path", "init_args"}
        if others or "class_path" not in name:
            raise UserError(f"scorers: got {dict(name)!r:.120}; expected {{class_path: NAME, init_args: {{...}}}}")
        return [(_known(str(name["class_path"])), dict(name.get("init_args") or {}))]
    pack = registry.packs().get(str(name))
    if pack is not None and pack.scorers:
        return [(scorer, {}) for scorer in pack.scorers]
    return [(_known(str(name)), {})]


def _known(name: str) -> str:
    known = registry.classes("Scorer")
    if name not in known:
        packs = [pack.name for pack in registry.packs().values() if pack.scorers]
        other = registry.classes().get(name)
        hint = nearest(name, [*known, *packs]) if other is None else f" {name} is a {registry.interface_of(other)}."
        raise UserError(
            f"there is no scorer {name!r}; registered: {', '.join(by_nearness(name, known))}; "
            f"packs with scorers: {', '.join(packs) or 'none'}.{hint}"
        )
    return name


def _built(name: str, arguments: Mapping[str, Any]) -> Scorer:
    cls = registry.classes("Scorer")[name]
    takes = list(inspect.signature(cls).parameters)
    if unknown := [argument for argument in arguments if argument not in takes]:
        listed = ", ".join(takes) or "none"
        raise UserError(f"{name} has no argument {unknown[0]}; it takes {listed}.{nearest(unknown[0], takes)}")
    try:
        scorer: Scorer = cls(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{name}: {error}") from None
    return scorer
