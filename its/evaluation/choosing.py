"""Which scorers are asked: by their names, with their arguments, or a pack's where theirs can't be had."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from its import registry
from its.errors import UserError, nearest
from its.instantiate import instantiate, plugin_class, spec_of
from its.instantiate.yaml_values import read_value
from its.interfaces import Scorer
from its.weights import WeightsNotFound

logger = logging.getLogger(__name__)

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
        specs[class_name][argument] = read_value(value)
    if not specs:
        raise UserError("no scorers are named")
    return [
        instantiate({"class_path": name, "init_args": arguments}, Scorer, key="scorers")
        for name, arguments in specs.items()
    ]


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
    logger.warning(
        f"scoring with {names} of the embedded pack {fallback}, not with the scorers in the config: "
        f"{missing.reason}. Their scores can't be compared with CLIP's and CLAP's, and have columns of their own. "
        f"What helps: {missing.remedy}.",
    )
    return instead


def _spelled_out(name: Any) -> list[tuple[str, dict[str, Any]]]:
    """(class name, arguments) of what a name stands for; packs stand for several."""
    if isinstance(name, str) and name.lstrip().startswith("{"):
        name = read_value(name)
    pack = registry.packs().get(str(name))
    if pack is not None and pack.scorers:
        return [(scorer, {}) for scorer in pack.scorers]
    try:
        class_name, arguments = spec_of(name)
        plugin_class(class_name, Scorer)
    except UserError as error:
        packs = [pack.name for pack in registry.packs().values() if pack.scorers]
        raise UserError(
            f"scorers: {error} Packs with scorers: {', '.join(packs) or 'none'}.{nearest(str(name), packs)}"
        ) from None
    return [(class_name, arguments)]
