"""Select the files of a model: safetensors or pickles, single or sharded, full precision or a variant."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from functools import cache

from its.errors import UserError
from its.weights.source import Source, WeightsNotFound

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Naming:
    """A library's naming scheme for weights files.

    Attributes:
        safetensors: stem of safetensors files.
        pickle: stem of `.bin` files.
        shards_first: whether the library prefers shards to a single file.
    """

    safetensors: str
    pickle: str
    shards_first: bool = False


DIFFUSERS = Naming(safetensors="diffusion_pytorch_model", pickle="diffusion_pytorch_model", shards_first=True)
TRANSFORMERS = Naming(safetensors="model", pickle="pytorch_model")


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """Files of one model.

    Attributes:
        component: subfolder of the model; empty for the root.
        weights: weights file, or the index and all shards.
        others: JSON files next to them, including `config.json`.
        variant: word in the names, for example `fp16`; None for full precision.
        pickled: whether the weights are `.bin` files.
    """

    component: str
    weights: tuple[str, ...]
    others: tuple[str, ...]
    variant: str | None
    pickled: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Unique names of all files."""
        return tuple(dict.fromkeys(self.others + self.weights))

    @property
    def config(self) -> str:
        """Name of `config.json`."""
        return within(self.component, "config.json")


def within(component: str, name: str) -> str:
    """Join a component's subfolder, which may be empty, and a file name."""
    return f"{component}/{name}" if component else name


def model_files(source: Source, component: str, naming: Naming, *, variant: str | None = None) -> ModelFiles:
    """Select the files of a model, preferring full precision to variants and safetensors to `.bin`.

    Args:
        source: source of the weights.
        component: subfolder of the model; empty for the root.
        naming: naming scheme of the model's library.
        variant: required variant. By default, a variant is used only if full precision is missing.

    Raises:
        WeightsNotFound: no weights file exists, or a shard is missing.
        UserError: only several variants exist, the index is damaged, or an adapter config refers to another model.
    """
    source.require(within(component, "config.json"))
    if (adapter := within(component, "adapter_config.json")) in source:
        raise UserError(
            f"{source.name}: {adapter} refers to another model, which would be loaded instead: remove the file, and "
            "set the adapter as lora"
        )
    variants = _variants(source, component, naming)
    if (files := _find(source, component, naming, variant)) is not None:
        return files
    stem = within(component, naming.safetensors)
    has_full = variant is not None and _find(source, component, naming, None) is not None
    if variant is not None and (has_full or variants):
        raise WeightsNotFound(
            f"{source.name} has no {variant} weights in {component or 'its root'} ({stem}.{variant}.safetensors)",
            f"Set variant to {' or '.join(['null'] * has_full + sorted(variants))}, or use other weights",
        )
    best = "fp16" if "fp16" in variants else next(iter(variants), None)
    if len(variants) > 1 and best != "fp16" and not source.strict:
        names = ", ".join(sorted(variants))
        raise UserError(f"{source.name}: {component} has the variants {names}: set variant to one of them")
    # A strict source is a cached snapshot, which may lack the hub's full precision.
    files = None if source.strict or best is None else _find(source, component, naming, best)
    if files is None:
        raise source.lacks(f"{stem}.safetensors and {within(component, naming.pickle)}.bin")
    return files


def tokenizer_files(source: Source, component: str, *, vocabularies: tuple[str, ...]) -> tuple[str, ...]:
    """Select all files of a tokenizer in a subfolder. `vocabularies` are alternative names, the usual one first.

    Raises:
        WeightsNotFound: the config or the vocabulary is missing.
    """
    files = source.require(f"{component}/tokenizer_config.json") + source.matching(f"{component}/*")
    names = [f"{component}/{name}" for name in vocabularies]
    if not set(names) & set(files):
        raise source.lacks(names[0])
    if set(names) & set(files) == {f"{component}/vocab.json"}:
        source.require(f"{component}/merges.txt")
    return tuple(dict.fromkeys(files))


@cache
def log_variant(name: str, variant: str) -> None:
    """Log once that a variant is used because full precision is missing."""
    logger.info(f"{name}: using its {variant} weights, since full precision is missing")


def _find(source: Source, component: str, naming: Naming, variant: str | None) -> ModelFiles | None:
    for pickled in (False, True):
        if weights := _weights(source, component, naming, variant, pickled=pickled):
            others = source.require(within(component, "config.json")) + source.matching(within(component, "*.json"))
            return ModelFiles(component=component, weights=weights, others=others, variant=variant, pickled=pickled)
    return None


def _weights(source: Source, component: str, naming: Naming, variant: str | None, *, pickled: bool) -> tuple[str, ...]:
    """Return a single file, or an index and its shards; empty if none exists."""
    stem, ending = (naming.pickle, "bin") if pickled else (naming.safetensors, "safetensors")
    dotted = f".{variant}" if variant else ""
    single = within(component, f"{stem}{dotted}.{ending}")
    index = within(component, f"{stem}.{ending}.index{dotted}.json")
    if single in source and not (naming.shards_first and index in source):
        return (single,)
    if index not in source:
        return ()
    shards = source.json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{source.path(index)} has no weight_map of tensors to files; get the weights again")
    names = sorted({within(component, name) for name in shards.values()})
    for name in names:
        if name not in source:
            raise source.lacks(f"{name}, which {index} lists")
    return (index, *names)


def _variants(source: Source, component: str, naming: Naming) -> set[str]:
    word = r"([A-Za-z0-9_-]+)"
    stems = ((re.escape(naming.safetensors), "safetensors"), (re.escape(naming.pickle), "bin"))
    pattern = "|".join(rf"{stem}\.{word}\.{end}|{stem}\.{end}\.index\.{word}\.json" for stem, end in stems)
    names = (name.removeprefix(f"{component}/") for name in source.matching(within(component, "*")))
    return {word for name in names if (match := re.fullmatch(pattern, name)) for word in match.groups() if word}
