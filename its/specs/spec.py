"""One sample to make, and its identity: computed once, when specs are made, and read by everything after that."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from its.specs.media import OwnFile


@dataclass(kw_only=True)  # not frozen: in half precision Lightning traverses batches and refuses frozen dataclasses
class SampleSpec:
    """One sample to make. Treat as immutable.

    Attributes:
        prompts: for each expert.
        negative_prompts: what guidance pushes away from, for each expert; usually empty.
        guidance_scale: gamma for each expert.
        seed: of the sample's own noise.
        settings: of the process, where a sweep changes them, by key: see `its.specs.sweep`.
        files: pictures and sounds of the user's own, for experts that have one instead of a prompt. Their prompts
            only say what is in the file.
        source: where the spec was written, for messages.
        id: name of the sample, set by `assign_ids`; empty before.
        definition: what else the sample depends on, set by `assign_ids`: see `its.methods.base.Method.definition`.
    """

    prompts: Mapping[str, str]
    negative_prompts: Mapping[str, str]
    guidance_scale: Mapping[str, float]
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, OwnFile] = field(default_factory=dict)
    source: str
    id: str = ""
    definition: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pair(self) -> str:
        """Equal for specs that differ in their seeds alone."""
        return repr(replace(self, seed=0, source="", id="", definition={}))


def assign_ids(specs: Sequence[SampleSpec], definition: Callable[[SampleSpec], Mapping[str, Any]]) -> list[SampleSpec]:
    """Specs with their definitions and ids; equal ones once, in the order of the first.

    Args:
        specs: what is asked for.
        definition: what else the sample of a spec depends on, but for its seed, as JSON-serialisable values.
    """
    definitions: dict[str, Mapping[str, Any]] = {}
    identified: dict[str, SampleSpec] = {}
    for spec in specs:
        if (pair := spec.pair) not in definitions:
            definitions[pair] = definition(spec)
        name = sample_id(spec, definitions[pair])
        identified.setdefault(name, replace(spec, id=name, definition=definitions[pair]))
    return list(identified.values())


def sample_id(row: SampleSpec, definition: Mapping[str, Any]) -> str:
    """Name of a sample: slug of the prompts, seed, and a digest of everything that defines the result.

    It holds only lower-case letters, digits and hyphens, so that a prompt can't name a path.

    Args:
        row: what is asked for.
        definition: what else the result depends on, as JSON-serialisable values: see `definition` of the methods.
    """
    # In an order that no config can change; this one puts what is seen before what is heard.
    prompts = [row.prompts[name] for name in sorted(row.prompts, reverse=True)]
    words = re.findall(r"[a-z0-9]+", " ".join(prompts).lower())
    slug = "-".join(words)[:48].strip("-") or "sample"
    everything = {
        "prompts": dict(row.prompts),
        "negative_prompts": dict(row.negative_prompts),
        "guidance_scale": dict(row.guidance_scale),
        "seed": row.seed,
        **definition,
    }
    digest = hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()
    return f"{slug}-{row.seed}-{digest[:10]}"
