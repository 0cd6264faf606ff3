"""Which files of a source hold a model: safetensors or pickled tensors, whole or in shards, of one variant."""

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
    """How a library calls weights files.

    Attributes:
        safetensors: stem of safetensors files.
        pickle: stem of `.bin` files.
        shards_first: whether the library reads shards where a whole file lies beside them.
    """

    safetensors: str
    pickle: str
    shards_first: bool = False


DIFFUSERS = Naming(safetensors="diffusion_pytorch_model", pickle="diffusion_pytorch_model", shards_first=True)
TRANSFORMERS = Naming(safetensors="model", pickle="pytorch_model")


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """The files of one model.

    Attributes:
        component: the model's subfolder; empty for the root.
        weights: names of the weights files: one, or all shards after their index.
        others: the JSON files beside them, `config.json` among them.
        variant: word in the names, such as `fp16`; None without one.
        pickled: whether they are `.bin` files.
    """

    component: str
    weights: tuple[str, ...]
    others: tuple[str, ...]
    variant: str | None
    pickled: bool

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys(self.others + self.weights))

    @property
    def config(self) -> str:
        """Name of the configuration."""
        return within(self.component, "config.json")


def within(component: str, name: str) -> str:
    """Name of a file in a model's subfolder."""
    return f"{component}/{name}" if component else name


def model_files(source: Source, component: str, naming: Naming, *, variant: str | None = None) -> ModelFiles:
    """Choose the files of a model: full precision before variants, safetensors before `.bin`.

    Where a whole file lies beside shards, those are chosen that the library reads.

    Args:
        source: where the model is.
        component: its subfolder; empty for the root.
        naming: of its library.
        variant: take these files and no others; None takes a variant only where full precision is missing.

    Raises:
        WeightsNotFound: there are none, or a shard is missing.
        UserError: there are several variants and no full precision, the index is damaged, or an adapter's settings name
            another model.
    """
    source.require(within(component, "config.json"))
    if (adapter := within(component, "adapter_config.json")) in source:
        raise UserError(
            f"{source.name}: {adapter} names another model, which would be read instead of this one: remove the file, "
            "and give an adapter as lora"
        )
    there = _variants(source, component, naming)
    for pickled in (False, True):
        if weights := _weights(source, component, naming, variant, pickled=pickled):
            return _model_files(source, component, weights, variant, pickled=pickled)
    stem = within(component, naming.safetensors)
    full = any(_weights(source, component, naming, None, pickled=pickled) for pickled in (False, True))
    if not full and not there:
        raise source.lacks(f"{stem}.safetensors and {within(component, naming.pickle)}.bin")
    if variant is not None:
        raise WeightsNotFound(
            f"{source.name} has no {variant} weights in {component or 'its root'} ({stem}.{variant}.safetensors)",
            f"Set variant to {' or '.join(['null'] * full + sorted(there))}, or name other weights",
        )
    if source.strict:  # a cached snapshot may lack full precision that the hub has
        raise source.lacks(f"{stem}.safetensors")
    chosen = "fp16" if "fp16" in there else next(iter(there))
    if len(there) > 1 and chosen != "fp16":
        raise UserError(f"{source.name}: {component} has the variants {', '.join(sorted(there))}: set variant to one")
    pickled = not _weights(source, component, naming, chosen, pickled=False)
    weights = _weights(source, component, naming, chosen, pickled=pickled)
    return _model_files(source, component, weights, chosen, pickled=pickled)


def tokenizer_files(source: Source, component: str, *, vocabularies: tuple[str, ...]) -> tuple[str, ...]:
    """All files of a tokenizer.

    Args:
        source: where it is.
        component: its subfolder.
        vocabularies: files one of which holds the vocabulary, the usual one first.

    Raises:
        WeightsNotFound: there is no configuration, or no vocabulary.
    """
    files = source.require(f"{component}/tokenizer_config.json") + source.matching(f"{component}/*")
    names = [f"{component}/{name}" for name in vocabularies]
    if not set(names) & set(files):
        raise source.lacks(names[0])
    if set(names) & set(files) == {f"{component}/vocab.json"}:
        source.require(f"{component}/merges.txt")
    return tuple(dict.fromkeys(files))


@cache
def say_variant(name: str, variant: str) -> None:
    """Tell the user, once, that a variant is read because it is the only one."""
    logger.info(f"{name}: full precision is not there; reading its {variant} weights")


def _model_files(
    source: Source, component: str, weights: tuple[str, ...], variant: str | None, *, pickled: bool
) -> ModelFiles:
    others = source.require(within(component, "config.json")) + source.matching(within(component, "*.json"))
    return ModelFiles(component=component, weights=weights, others=others, variant=variant, pickled=pickled)


def _weights(source: Source, component: str, naming: Naming, variant: str | None, *, pickled: bool) -> tuple[str, ...]:
    """One file, or an index and its shards; empty where there is neither."""
    stem, ending = (naming.pickle, "bin") if pickled else (naming.safetensors, "safetensors")
    dotted = f".{variant}" if variant else ""
    whole, index = (
        within(component, f"{stem}{dotted}.{ending}"),
        within(component, f"{stem}.{ending}.index{dotted}.json"),
    )
    if whole in source and not (naming.shards_first and index in source):
        return (whole,)
    if index not in source:
        return ()
    shards = source.json(index).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(name, str) for name in shards.values()):
        raise UserError(f"{source.path(index)} has no weight_map of tensors and files; get the weights again")
    names = sorted({within(component, name) for name in shards.values()})
    for name in names:
        if name not in source:
            raise source.lacks(f"{name}, which {index} names")
    return (index, *names)


def _variants(source: Source, component: str, naming: Naming) -> set[str]:
    """Words in the names of weights files."""
    word = r"([A-Za-z0-9_-]+)"
    stems = ((re.escape(naming.safetensors), "safetensors"), (re.escape(naming.pickle), "bin"))
    patterns = [rf"{stem}\.{word}\.{end}|{stem}\.{end}\.index\.{word}\.json" for stem, end in stems]
    found = set()
    for name in source.matching(within(component, "*")):
        for pattern in patterns:
            if match := re.fullmatch(pattern, name.removeprefix(f"{component}/")):
                found.add(match[1] or match[2])
    return found
