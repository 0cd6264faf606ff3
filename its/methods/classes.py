"""Look up method classes by name. A method's module is imported on demand, since it imports Lightning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from its import registry
from its.errors import UserError, by_nearness, nearest
from its.instantiate import parameters

if TYPE_CHECKING:
    from its.methods.base import Method

DEFAULT = "MultimodalDenoising"

FIRST_PARTY = {
    "MultimodalDenoising": ("its.methods.denoising", "Denoises one canvas jointly with several experts."),
    "Imprint": ("its.methods.imprint", "Imprints a picture on a spectrogram that was generated separately."),
    "ScoreDistillation": ("its.methods.score_distillation.method", "Optimises an image by score distillation."),
}
"""Module and summary of each built-in method."""


def method_class(name: str) -> type[Method]:
    """Return the built-in or registered method of this name.

    Raises:
        UserError: the name is unknown; the message lists the known names.
    """
    if name in FIRST_PARTY:
        import_module(FIRST_PARTY[name][0])
    known = registry.classes("Method")
    if name not in known:
        names = [*FIRST_PARTY, *known]
        listed = ", ".join(by_nearness(name, names))
        raise UserError(f"method is {name!r}; expected one of {listed}.{nearest(name, names)}")
    return known[name]


def settings_of(name: str) -> list[str]:
    """Return the argument names of a method, which are the keys under `model` in its configs.

    Raises:
        UserError: as `method_class`.
    """
    return list(parameters(method_class(name))[0])
