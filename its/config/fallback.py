"""Apply a pack of weights to a config whose own weights are missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from typing import Any

from its import registry
from its.config.compose import Config, Layer, read_layer
from its.config.merge import Values, merge
from its.errors import UserError, nearest
from its.methods import classes as methods
from its.registry import Pack
from its.weights import WeightsNotFound


def pack_for(missing: WeightsNotFound, name: str | None) -> Pack:
    """The pack that a config allows as fallback.

    Args:
        missing: the weights that the config names.
        name: the key `model.fallback`.

    Raises:
        UserError: the config allows none, or there is none of that name.
    """
    if name is None:
        raise UserError(f"{missing}. Or use the embedded demo weights: --model.fallback mini")
    packs = registry.packs()
    if name not in packs:
        raise UserError(f"model.fallback is {name!r}; there are these packs: {', '.join(packs)}.{nearest(name, packs)}")
    return packs[name]


def warning(missing: WeightsNotFound, pack: Pack, *, instead: str, settings: str) -> str:
    """The line that reports the use of a pack, the reason, and the remedy.

    Args:
        missing: the weights that the config names.
        pack: the one in use.
        instead: what of the pack is in use, such as `demo weights`.
        settings: other differences from the config.
    """
    return (
        f"using the embedded {instead} ({pack.name}: {pack.summary}), not the ones in the config: "
        f"{missing.reason}. {settings} What helps: {missing.remedy}; or --model.fallback null, to make this an error."
    )


def on_pack(config: Config, pack: Pack, *, keep_vocoder: bool) -> Config:
    """Replace all weights of a config by a pack's.

    The pack's settings overlay those of the files, and the command line overlays the pack's, except for the parts
    with weights. The config keeps the names and views of its experts, and a combiner of another class than the pack's.

    Args:
        config: with weights that are missing.
        pack: takes their place.
        keep_vocoder: keep a vocoder whose class the command line sets.

    Raises:
        UserError: the pack has no equivalent of an expert, or no colorizer.
    """
    overlays = [pack.config, *([pack.methods[config.method]] if config.method in pack.methods else [])]
    layer: Values = reduce(merge, (read_layer(path).values for path in overlays), {})
    takes = methods.settings_of(config.method)
    layer["model"] = {key: value for key, value in layer["model"].items() if key in takes}
    model = config.values.get("model") or {}
    replaced = ["experts", "codec", "colorizer"]
    chosen = any("class_path" in _vocoder(one) for one in config.layers if one.is_option)
    if not (keep_vocoder and chosen):
        replaced.append("vocoder")
    else:
        layer["model"].pop("vocoder", None)
    layer = adapt_pack(layer, model.get("experts") or {}, combiner=model.get("combiner"))
    colored = [_colorizer_layer(pack)] if model.get("colorizer") is not None else []
    own = [replace(one, values=_without(one.values, replaced)) for one in config.layers]
    files, options = [one for one in own if not one.is_option], [one for one in own if one.is_option]
    return Config([*files, Layer(str(pack.config), layer), *colored, *options])


def with_pack_colorizer(config: Config, pack: Pack) -> Config:
    """Replace the colorizer of a config by a pack's.

    Raises:
        UserError: the pack has none.
    """
    own = [replace(one, values=_without(one.values, ["colorizer"])) for one in config.layers]
    return Config([*own, _colorizer_layer(pack)])


def adapt_pack(pack: Values, experts: Mapping[str, Any], *, combiner: Any) -> Values:
    """Adapt a pack's overlay to a config with other experts than the pack's own.

    Each expert becomes the pack's expert of the same class, or else of the same name; of a wrapper, the expert inside
    does. Values that the pack sets by expert (weights, scales) are copied to all that the expert stands for. The
    pack's combiner balances its own experts, so it is left out where the config has another class of combiner, or not
    all of the pack's experts have a part.

    Args:
        pack: the overlay.
        experts: of the config, by name; if empty, the pack's own are kept.
        combiner: of the config, with its `class_path`.

    Raises:
        UserError: the pack has no equivalent of an expert.
    """
    theirs = pack["model"]["experts"]
    found = {name: _equivalent(name, expert, theirs) for name, expert in (experts or theirs).items()}
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


def _colorizer_layer(pack: Pack) -> Layer:
    if pack.colorizer is None:
        raise UserError(
            f"the weights are missing, and the pack {pack.name} can't replace them: it has no colorizer. "
            "Leave model.colorizer out"
        )
    return read_layer(pack.colorizer)


def _vocoder(layer: Layer) -> Values:
    vocoder = (layer.values.get("model") or {}).get("vocoder")
    return vocoder if isinstance(vocoder, dict) else {}


def _without(values: Values, parts: list[str]) -> Values:
    """The values without some keys under `model`."""
    model = values.get("model") or {}
    return values | {"model": {key: value for key, value in model.items() if key not in parts}}


def _equivalent(name: str, expert: Any, theirs: Values) -> tuple[Any, str]:
    """(the pack's expert in the place of one of the config, its name in the pack)."""
    class_path = expert.get("class_path")
    for other, candidate in theirs.items():
        if candidate["class_path"] == class_path:
            return candidate, other
    arguments = expert.get("init_args") or {}
    if isinstance(inner := arguments.get("expert"), dict):
        wrapped, other = _equivalent(name, inner, theirs)
        return expert | {"init_args": arguments | {"expert": wrapped}}, other
    if name in theirs:
        return theirs[name], name
    known = ", ".join(f"{other} ({candidate['class_path']})" for other, candidate in theirs.items())
    raise UserError(
        f"the weights are missing, and the pack can't replace them: it has the experts {known}, "
        f"but nothing for {name} ({class_path}). Give the weights of all experts"
    )


def _by_name(value: Any, names: Mapping[str, str]) -> Any:
    """Copy values that are set by the pack's experts to the experts that they stand for."""
    if not isinstance(value, dict) or not value.keys() & set(names.values()):
        return value
    return {name: value[other] for name, other in names.items() if other in value}
