"""Select scorers by name, and find their weights or fall back to the scorers of a pack."""

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
"""The paper's scorers."""


def build_scorers(names: Sequence[Any], settings: Sequence[str] = ()) -> list[Scorer]:
    """Construct scorers. Their weights are not loaded.

    Args:
        names: names of scorers or of packs with scorers, or mappings with `class_path` and `init_args`.
        settings: arguments of the scorers, as `NAME.ARGUMENT=VALUE`.

    Raises:
        UserError: a name or an argument is unknown, a scorer is given twice, or none is given.
    """
    specs: dict[str, dict[str, Any]] = {}
    for name in names:
        for class_name, arguments in _expand(name):
            if class_name in specs:
                raise UserError(f"scorer {class_name} is given twice; expected each class once")
            specs[class_name] = arguments
    for setting in settings:
        key, equals, value = setting.partition("=")
        class_name, dot, argument = key.partition(".")
        if not (equals and dot and argument):
            raise UserError(f"--set {setting}: expected NAME.ARGUMENT=VALUE, for example CLIPScorer.weights=FOLDER")
        if class_name not in specs:
            raise UserError(f"--set {setting}: expected one of {', '.join(specs)}.{nearest(class_name, specs)}")
        specs[class_name][argument] = read_value(value)
    if not specs:
        raise UserError("scorers: the list is empty; expected names of scorers or packs")
    return [
        instantiate({"class_path": name, "init_args": arguments}, Scorer, key="scorers")
        for name, arguments in specs.items()
    ]


def find_weights(scorers: Sequence[Scorer], *, fallback: str | None) -> list[Scorer]:
    """Find the weights of scorers without downloading them. If some are missing, return the fallback pack's scorers.

    Args:
        scorers: constructed scorers.
        fallback: name of a pack; None to raise an error instead.

    Raises:
        UserError: weights are missing without a fallback, or a scorer's argument is invalid.
    """
    for scorer in scorers:
        name = type(scorer).__name__
        try:
            scorer.find()
        except UserError as error:
            raise UserError(f"{name}: {error}") from None
        except WeightsNotFound as error:
            return _fall_back(name, error.prefixed(name), fallback)
    return list(scorers)


def _fall_back(name: str, missing: WeightsNotFound, fallback: str | None) -> list[Scorer]:
    if fallback is None:
        raise UserError(
            f"{missing}. Or set a folder with --set {name}.weights=FOLDER, or use --scorers mini, the embedded judge, "
            "which is neither CLIP nor CLAP and scores the embedded pack's prompts only"
        )
    scorers = build_scorers([fallback])
    for scorer in scorers:
        scorer.find()
    names = ", ".join(type(scorer).__name__ for scorer in scorers)
    logger.warning(
        f"scoring with {names} of the embedded pack {fallback}, not with the scorers in the config: {missing.reason}. "
        f"Their scores can't be compared with CLIP's and CLAP's, and have separate columns. Remedy: {missing.remedy}."
    )
    return scorers


def _expand(name: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return the class names and arguments of a scorer, or of all scorers of a pack."""
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
