"""Specification and identity of a sample."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from its.specs.material import Material, Transition
from its.specs.media import MediaPrompt


@dataclass(kw_only=True)  # not frozen: in half precision Lightning traverses batches and refuses frozen dataclasses
class SampleSpec:
    """Specification of one sample. Treat as immutable.

    Attributes:
        prompts: prompt of each expert.
        negative_prompts: negative prompt of each expert; usually empty.
        guidance_scale: gamma of each expert.
        seed: seed of the sample's noise.
        settings: settings changed by a sweep, by key: see `its.specs.sweep`.
        files: media prompts of experts; their text prompts are only descriptions.
        material: the user's own start, kept region and control pictures.
        transition: other end of a transition to other prompts or another seed; None without one.
        source: location of the spec in the config, for messages.
        id: name of the sample, set by `assign_ids`.
        definition: settings and weights that the sample depends on, set by `assign_ids`: see `Method.definition`.
    """

    prompts: Mapping[str, str]
    negative_prompts: Mapping[str, str]
    guidance_scale: Mapping[str, float]
    seed: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, MediaPrompt] = field(default_factory=dict)
    material: Material = field(default_factory=Material)
    transition: Transition | None = None
    source: str
    id: str = ""
    definition: Mapping[str, Any] = field(default_factory=dict)

    @property
    def pair(self) -> str:
        """Key that is equal for specs that differ only in their seeds."""
        return repr(replace(self, seed=0, source="", id="", definition={}))


def assign_ids(specs: Sequence[SampleSpec], definition: Callable[[SampleSpec], Mapping[str, Any]]) -> list[SampleSpec]:
    """Set the ids and definitions of specs, and remove duplicates.

    `definition` computes `SampleSpec.definition` once for each `pair`, so it must not depend on the seed.
    """
    definitions: dict[str, Mapping[str, Any]] = {}
    identified: dict[str, SampleSpec] = {}
    for spec in specs:
        if (pair := spec.pair) not in definitions:
            definitions[pair] = definition(spec)
        name = sample_id(spec, definitions[pair])
        identified.setdefault(name, replace(spec, id=name, definition=definitions[pair]))
    return list(identified.values())


def sample_id(spec: SampleSpec, definition: Mapping[str, Any]) -> str:
    """Compute the id of a sample: slug of the prompts, seed, and digest of everything that the sample depends on.

    The id consists of lower-case letters, digits and hyphens, so prompts can't inject paths. `definition` must be
    JSON-serialisable.
    """
    # Independent of the order in the config; in reverse, `visual` precedes `audio`.
    prompts = [spec.prompts[name] for name in sorted(spec.prompts, reverse=True)]
    slug = "-".join(re.findall(r"[a-z0-9]+", " ".join(prompts).lower()))[:48].strip("-") or "sample"
    by_expert = {key: dict(getattr(spec, key)) for key in ("prompts", "negative_prompts", "guidance_scale")}
    identity = {**by_expert, "seed": spec.seed, **definition}
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
    return f"{slug}-{spec.seed}-{digest[:10]}"
