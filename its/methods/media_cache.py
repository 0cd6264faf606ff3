"""Cache of tensors that are made of users' files."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

LARGEST = 64
"""Maximum number of tensors. A control picture of one of the paper's canvases takes 3 MiB, its latents 64 KiB."""


class MediaCache:
    """First-in, first-out cache, so that a file is read once for all samples that use it."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def __call__(self, key: str, make: Callable[[], Tensor]) -> Tensor:
        """Return the tensor of a key, which contains the digest of the file."""
        if key not in self._tensors:
            while len(self._tensors) >= LARGEST:
                self._tensors.pop(next(iter(self._tensors)))
            self._tensors[key] = make()
        return self._tensors[key]

    def clear(self) -> None:
        """Remove all tensors."""
        self._tensors.clear()
