"""Find methods by the names that configs use. Methods import Lightning, so a module is imported when it is needed."""

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
    "MultimodalDenoising": ("its.methods.denoising", "Experts of one latent space denoise one canvas jointly."),
    "Imprint": ("its.methods.imprint", "Imprints a picture on a spectrogram that was made separately."),
    "ScoreDistillation": ("its.methods.score_distillation.method", "Optimises an image by score distillation."),
}
"""Module and summary of this package's own methods."""


def method_class(name: str) -> type[Method]:
    """The method of this name: one of this package, or a registered one.

    Raises:
        UserError: there is none; the message lists the names.
    """
    if name in FIRST_PARTY:
        import_module(FIRST_PARTY[name][0])
    known = registry.classes("Method")
    if name not in known:
        names = [*FIRST_PARTY, *(other for other in known if other not in FIRST_PARTY)]
        raise UserError(f"method is {name!r}; there are: {', '.join(by_nearness(name, names))}.{nearest(name, names)}")
    return known[name]


def settings_of(name: str) -> list[str]:
    """Names of a method's arguments, which are the keys under `model` in its configs.

    Raises:
        UserError: as `method_class`.
    """
    return list(parameters(method_class(name))[0])
