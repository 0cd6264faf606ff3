"""Masks over the canvas: boxes with soft edges, and images or arrays from files."""

from __future__ import annotations

import hashlib
import io
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from its.media.decode import open_picture
from its.media.limited import read_limited, user_path
from its.media.pictures import to_tensor

MAX_BYTES = 2**29
"""Maximum size of a mask file."""


class Mask(ABC):
    """Weight of an expert at each position of the canvas, in [0, 1]."""

    @abstractmethod
    def render(self, size: tuple[int, int]) -> Tensor:
        """Return the mask in float32 on the CPU, in (rows, columns), or in the size of its file."""

    @abstractmethod
    def describe(self) -> Any:
        """Return JSON-serialisable values that define the mask."""

    def check(self, canvas: tuple[int, int]) -> None:  # noqa: B027 - optional
        """Check that the mask fits a canvas of (rows, columns).

        Raises:
            ValueError: the mask has other proportions.
        """


@dataclass(frozen=True)
class Box(Mask):
    """Rectangle in fractions of the canvas. Row 0, the highest frequency band, is at the top.

    Attributes:
        left, right, top, bottom: edges, in [0, 1]. Edges at the border of the canvas are never soft.
        soft: width of the linear ramp that is centred on each other edge, as a fraction of the canvas width (left,
            right) or height (top, bottom). The ramps of adjacent boxes add up to 1.
        value: value of the mask inside the rectangle.
    """

    left: float = 0.0
    right: float = 1.0
    top: float = 0.0
    bottom: float = 1.0
    soft: float = 0.0
    value: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.left < self.right <= 1 and 0 <= self.top < self.bottom <= 1):
            raise ValueError(
                f"left {self.left:g}, right {self.right:g}, top {self.top:g}, bottom {self.bottom:g}: "
                "expected fractions of the canvas from 0 to 1, left less than right and top less than bottom"
            )
        if not (0 <= self.soft <= 1 and 0 <= self.value <= 1):
            raise ValueError(f"soft (={self.soft:g}) and value (={self.value:g}) must lie between 0 and 1")

    def render(self, size: tuple[int, int]) -> Tensor:
        rows = self._profile(self.top, self.bottom, size[0])
        return self.value * rows[:, None] * self._profile(self.left, self.right, size[1])

    def _profile(self, start: float, end: float, n: int) -> Tensor:
        positions = (torch.arange(n, dtype=torch.float32, device="cpu") + 0.5) / n
        width = max(self.soft, 1e-6)
        rise = ((positions - start) / width + 0.5).clamp(0, 1) if start > 0 else torch.ones_like(positions)
        fall = ((end - positions) / width + 0.5).clamp(0, 1) if end < 1 else torch.ones_like(positions)
        return rise * fall

    def describe(self) -> Any:
        return asdict(self)


@dataclass(frozen=True)
class FileMask(Mask):
    """Gray image in a format of `its.media.decode.PICTURES`, or 2-D array in [0, 1] (.npy)."""

    file: str

    def render(self, size: tuple[int, int]) -> Tensor:
        return self.values

    def check(self, canvas: tuple[int, int]) -> None:
        rows, columns = self.values.shape
        if rows * canvas[1] != columns * canvas[0]:
            raise ValueError(
                f"{self.file} has {rows} rows and {columns} columns; expected the proportions of the canvas "
                f"{list(canvas)}"
            )

    def describe(self) -> Any:
        return {"sha256": self._digest}

    @cached_property
    def _digest(self) -> str:
        return hashlib.sha256(self._content).hexdigest()

    @property
    def _content(self) -> bytes:
        try:
            return read_limited(user_path(self.file), MAX_BYTES)
        except OSError as error:
            raise ValueError(f"{self.file} can't be read as a mask ({error.strerror})") from None

    @cached_property
    def values(self) -> Tensor:
        """Values of the file, (rows, columns) float32.

        Raises:
            ValueError: the file can't be read as a mask.
        """
        import numpy as np

        content = self._content
        try:
            if self.file.endswith(".npy"):
                array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
                values = torch.from_numpy(array.astype(np.float32))
            elif (image := open_picture(content)).mode.startswith(("I", "F")):  # convert("L") would clip at 255
                values = to_tensor(image, background=0)[0, 0]
            else:
                values = torch.from_numpy(np.asarray(image.convert("L"), dtype=np.float32) / 255)
        except (ValueError, TypeError, MemoryError) as error:
            raise ValueError(f"{self.file} can't be read as a mask ({error})") from None
        if values.ndim != 2 or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(
                f"{self.file} has values of shape {tuple(values.shape)}; expected (rows, columns) of values in [0, 1]"
            )
        return values
