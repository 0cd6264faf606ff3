"""Equal experts under several names are one in memory: two prompts for one model need its weights once."""

from __future__ import annotations

import json
from collections.abc import Mapping

from its.interfaces import NoiseExpert


def deduplicate_experts(experts: Mapping[str, NoiseExpert]) -> dict[str, NoiseExpert]:
    """The same experts by name, where those of one class and equal arguments are one object.

    So are the experts that wrappers hold, in their child modules.
    """
    known: dict[str, NoiseExpert] = {}

    def one(expert: NoiseExpert) -> NoiseExpert:
        for name, inner in list(expert.named_children()):
            if isinstance(inner, NoiseExpert):
                setattr(expert, name, one(inner))
        return known.setdefault(json.dumps(expert.describe(), sort_keys=True, default=repr), expert)

    return {name: one(expert) for name, expert in experts.items()}
