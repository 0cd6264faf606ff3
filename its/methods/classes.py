"""The methods that configs can name: ours, and imported subclasses of `Method`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module

from its.errors import UserError, by_nearness, nearest
from its.methods.base import Method

DEFAULT = "MultimodalDenoising"

_MODULES = {
    "MultimodalDenoising": "its.methods.denoising",
    "Imprint": "its.methods.imprint",
    "ScoreDistillation": "its.methods.score_distillation.method",
}
"""Of this package's own methods."""


def method_class(name: str) -> type[Method]:
    """The method of this name: ours, or a subclass of `Method` in a module that was imported.

    Raises:
        UserError: there is none; the message names those that there are.
    """
    if name in _MODULES:
        found: type[Method] = getattr(import_module(_MODULES[name]), name)
        return found
    known = {cls.__name__: cls for cls in _subclasses(Method)}  # type: ignore[type-abstract]  # abstract ones are left out
    if name in known:
        return known[name]
    names = [*_MODULES, *known]
    raise UserError(f"method is {name!r}; there are: {', '.join(by_nearness(name, names))}.{nearest(name, names)}")


def settings_of(name: str) -> list[str]:
    """Names of a method's arguments, which are the keys under `model` in its configs.

    Raises:
        UserError: as `method_class`.
    """
    return list(inspect.signature(method_class(name)).parameters)


def _subclasses(cls: type[Method]) -> Iterator[type[Method]]:
    for sub in cls.__subclasses__():
        if not inspect.isabstract(sub):
            yield sub
        yield from _subclasses(sub)
