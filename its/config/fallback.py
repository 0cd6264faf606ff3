"""Replace missing weights of a config by those of a pack."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def fallback_pack(missing: WeightsNotFound, name: str | None) -> Pack:
    """Return the pack named by `model.fallback`.

    Raises:
        UserError: `name` is None, in which case the message includes `missing`, or not the name of a pack.
    """
    if name is None:
        raise UserError(f"{missing}. Or use the embedded demo weights: set model.fallback to mini")
    packs = registry.packs()
    if name not in packs:
        raise UserError(f"model.fallback is {name!r}; expected a pack: {', '.join(packs)}.{nearest(name, packs)}")
    return packs[name]


def format_warning(missing: WeightsNotFound, pack: Pack, *, instead: str, settings: str) -> str:
    """Format the warning about the use of a pack.

    Args:
        missing: error for the config's weights.
        pack: pack in use.
        instead: content of the pack, for example `demo weights`.
        settings: sentence about other differences from the config.
    """
    return (
        f"using the embedded {instead} ({pack.name}: {pack.summary}), not the ones in the config: "
        f"{missing.reason}. {settings} To fix: {missing.remedy}. To make this an error: set model.fallback to null"
    )


def replace_weights(config: Config, pack: Pack, *, keep_vocoder: bool) -> Config:
    """Replace all weights of a config by a pack's.

    The pack's settings override those of config files. Command-line options override the pack's, except for components
    with weights. The config's expert names and views remain, and so does a combiner of another class than the pack's.
    If `keep_vocoder` is set, a vocoder class from the command line also remains.

    Raises:
        UserError: the pack has no equivalent of an expert, or no colorizer.
    """
    overlays = [pack.config, *([pack.methods[config.method]] if config.method in pack.methods else [])]
    values: Values = reduce(merge, (read_layer(path).values for path in overlays), {})
    settings = methods.settings_of(config.method)
    values["model"] = {key: value for key, value in values["model"].items() if key in settings}
    replaced = ["experts", "codec", "colorizer"]
    vocoders = [_model(layer).get("vocoder") for layer in config.layers if layer.is_option]
    if keep_vocoder and any(isinstance(vocoder, dict) and "class_path" in vocoder for vocoder in vocoders):
        values["model"].pop("vocoder", None)
    else:
        replaced.append("vocoder")
    model = config.values.get("model") or {}
    values = adapt_pack(values, model.get("experts") or {}, combiner=model.get("combiner"), wrappers=pack.wrappers)
    colorizer = [_colorizer_layer(pack)] if model.get("colorizer") is not None else []
    layers = _without(config.layers, replaced)
    files, options = [x for x in layers if not x.is_option], [x for x in layers if x.is_option]
    return Config([*files, Layer(str(pack.config), values), *colorizer, *options])


def with_pack_colorizer(config: Config, pack: Pack) -> Config:
    """Replace the colorizer of a config by a pack's.

    Raises:
        UserError: the pack has no colorizer.
    """
    return Config([*_without(config.layers, ["colorizer"]), _colorizer_layer(pack)])


def adapt_pack(
    pack: Values, experts: Mapping[str, Any], *, combiner: Any, wrappers: Mapping[str, Mapping[str, Any]] | None = None
) -> Values:
    """Adapt a pack's overlay to the experts of a config.

    Each expert is replaced by the pack's expert of the same class, or else of the same name. In a wrapper, the inner
    expert is replaced, and so are the arguments for which the pack has weights. Values that the pack sets by expert
    (weights, scales) are copied to every replaced expert. The pack's combiner is tuned to the pack's experts. It is
    omitted if the config has another class of combiner, or if a pack expert replaces none.

    Args:
        pack: overlay of the pack.
        experts: specs of the config's experts by name; if empty, the pack's are used.
        combiner: spec of the config's combiner.
        wrappers: arguments of wrapper experts with weights in the pack, by class name.

    Raises:
        UserError: the pack has no equivalent of an expert.
    """
    pack_experts = pack["model"]["experts"]
    replacements = {
        name: _equivalent(name, spec, pack_experts, wrappers or {}) for name, spec in (experts or pack_experts).items()
    }
    names = {name: pack_name for name, (_, pack_name) in replacements.items()}
    model = {key: _by_name(value, names) for key, value in pack["model"].items()}
    model["experts"] = {name: spec for name, (spec, _) in replacements.items()}
    pack_combiner = model.pop("combiner", {})
    is_same_class = not isinstance(combiner, dict) or combiner.get("class_path") == pack_combiner.get("class_path")
    if pack_combiner and is_same_class and set(names.values()) == set(pack_experts):
        arguments = {key: _by_name(value, names) for key, value in (pack_combiner.get("init_args") or {}).items()}
        model["combiner"] = pack_combiner | {"init_args": arguments}
    data = {key: _by_name(value, names) for key, value in pack.get("data", {}).items()}
    return pack | {"model": model, "data": data}


def _colorizer_layer(pack: Pack) -> Layer:
    if pack.colorizer is None:
        raise UserError(
            f"weights are missing, and the fallback pack {pack.name} has no colorizer to replace model.colorizer. "
            "Remove that key"
        )
    return read_layer(pack.colorizer)


def _model(layer: Layer) -> Values:
    return layer.values.get("model") or {}


def _without(layers: Sequence[Layer], keys: Sequence[str]) -> list[Layer]:
    """Remove keys under `model` from layers."""
    models = [{key: value for key, value in _model(layer).items() if key not in keys} for layer in layers]
    return [replace(x, values=x.values | {"model": model}) for x, model in zip(layers, models, strict=True)]


def _equivalent(
    name: str, expert: Any, pack_experts: Values, wrappers: Mapping[str, Mapping[str, Any]]
) -> tuple[Any, str]:
    """Return the spec that replaces an expert, and the name of the pack expert that it uses."""
    class_path = expert.get("class_path")
    for pack_name, candidate in pack_experts.items():
        if candidate["class_path"] == class_path:
            return candidate, pack_name
    arguments = expert.get("init_args") or {}
    if isinstance(inner := arguments.get("expert"), dict):
        replacement, pack_name = _equivalent(name, inner, pack_experts, wrappers)
        own = wrappers.get(registry.short_name(str(class_path)), {})
        for key in own:
            if isinstance(several := arguments.get(key), list) and len(several) > 1:
                raise UserError(
                    f"weights are missing, and the fallback pack has one {class_path}, but {name} has {len(several)} "
                    f"in {key}. Provide the weights of all experts, or use one"
                )
        return expert | {"init_args": {**arguments, **own, "expert": replacement}}, pack_name
    if name in pack_experts:
        return pack_experts[name], name
    known = ", ".join(f"{pack_name} ({candidate['class_path']})" for pack_name, candidate in pack_experts.items())
    raise UserError(
        f"weights are missing, and the fallback pack has no equivalent of the expert {name} ({class_path}); it has "
        f"{known}. Provide the weights of all experts"
    )


def _by_name(value: Any, names: Mapping[str, str]) -> Any:
    """Copy values that are keyed by pack experts to the experts that they replace."""
    if not isinstance(value, dict) or not value.keys() & set(names.values()):
        return value
    return {name: value[pack_name] for name, pack_name in names.items() if pack_name in value}
