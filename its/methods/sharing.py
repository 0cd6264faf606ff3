"""Share the weights of equal experts, so that two prompts for one model load its weights once."""

from __future__ import annotations

import json
from collections.abc import Mapping

from its.interfaces import NoiseExpert


def deduplicate_experts(experts: Mapping[str, NoiseExpert]) -> dict[str, NoiseExpert]:
    """Replace experts of equal class and arguments by one object. Includes experts inside wrappers."""
    unique: dict[str, NoiseExpert] = {}

    def deduplicate(expert: NoiseExpert) -> NoiseExpert:
        for name, child in list(expert.named_children()):
            if isinstance(child, NoiseExpert):
                setattr(expert, name, deduplicate(child))
        return unique.setdefault(json.dumps(expert.describe(), sort_keys=True, default=repr), expert)

    return {name: deduplicate(expert) for name, expert in experts.items()}
