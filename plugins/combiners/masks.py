"""Masks over a canvas: boxes with soft edges, and pictures from files."""

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

LARGEST = 2**29
"""Bytes of a mask's file."""


class Mask(ABC):
    """Says how much of each place is an expert's, in [0, 1]."""

    @abstractmethod
    def draw(self, size: tuple[int, int]) -> Tensor:
        """(rows, columns) -> the mask on the CPU, float32; a file's may have another size of the same proportions."""

    @abstractmethod
    def describe(self) -> Any:
        """What defines it, as JSON-serialisable values."""

    def check(self, canvas: tuple[int, int]) -> None:  # noqa: B027 - most fit any
        """Whether it fits a canvas of (rows, columns).

        Raises:
            ValueError: it doesn't.
        """


@dataclass(frozen=True)
class Box(Mask):
    """A rectangle, in shares of the canvas; row 0, the highest band, is at the top.

    Attributes:
        left, right, top, bottom: its edges, in [0, 1]. An edge on the canvas's own edge is never soft.
        soft: width of the ramp at its other edges, which are in the middle of it; in shares of the canvas's length
            for left and right and of its height for top and bottom. Two boxes that meet add up to 1.
        value: what it is inside.
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
                "expected shares of the canvas from 0 to 1, left less than right and top less than bottom"
            )
        if not (0 <= self.soft <= 1 and 0 <= self.value <= 1):
            raise ValueError(f"soft (={self.soft:g}) and the mask's value (={self.value:g}) must lie between 0 and 1")

    def draw(self, size: tuple[int, int]) -> Tensor:
        rows, columns = (self._profile(*edges, n) for edges, n in zip(self._edges, size, strict=True))
        return self.value * rows[:, None] * columns

    @property
    def _edges(self) -> tuple[tuple[float, float], tuple[float, float]]:
        return (self.top, self.bottom), (self.left, self.right)

    def _profile(self, begin: float, end: float, n: int) -> Tensor:
        places = (torch.arange(n, dtype=torch.float32, device="cpu") + 0.5) / n
        width = max(self.soft, 1e-6)
        rise = ((places - begin) / width + 0.5).clamp(0, 1) if begin > 0 else torch.ones_like(places)
        fall = ((end - places) / width + 0.5).clamp(0, 1) if end < 1 else torch.ones_like(places)
        return rise * fall

    def describe(self) -> Any:
        return asdict(self)


@dataclass(frozen=True)
class Picture(Mask):
    """A gray picture (of one of `its.media.decode.PICTURES`), or a 2-D array in [0, 1] (.npy)."""

    file: str

    def draw(self, size: tuple[int, int]) -> Tensor:
        return self.values

    def check(self, canvas: tuple[int, int]) -> None:
        rows, columns = self.values.shape
        if rows * canvas[1] != columns * canvas[0]:
            raise ValueError(
                f"{self.file} has {rows} rows and {columns} columns, which don't fit the canvas {list(canvas)}: "
                "expected a mask of this size, or one of the same proportions"
            )

    def describe(self) -> Any:
        return {"sha256": self.digest}

    @cached_property
    def digest(self) -> str:
        return hashlib.sha256(self._content).hexdigest()

    @property
    def _content(self) -> bytes:
        try:
            return read_limited(user_path(self.file), LARGEST)
        except OSError as error:
            raise ValueError(f"{self.file} can't be read as a mask ({error.strerror})") from None

    @cached_property
    def values(self) -> Tensor:
        """(rows, columns) float32.

        Raises:
            ValueError: the file can't be read as a mask.
        """
        import numpy as np

        content = self._content
        try:
            if self.file.endswith(".npy"):
                array = np.lib.format.read_array(io.BytesIO(content), allow_pickle=False)
                values = torch.from_numpy(array.astype(np.float32))
            else:
                picture = open_picture(content)
                if picture.mode.startswith(("I", "F")):  # Pillow's conversion would cut these off at 255
                    values = to_tensor(picture, background=0)[0, 0]
                else:
                    values = torch.from_numpy(np.asarray(picture.convert("L"), dtype=np.float32) / 255)
        except (ValueError, TypeError, MemoryError) as error:
            raise ValueError(f"{self.file} can't be read as a mask ({error})") from None
        if values.ndim != 2 or not ((values >= 0) & (values <= 1)).all():
            raise ValueError(f"{self.file} holds {tuple(values.shape)} values; expected rows and columns in [0, 1]")
        return values
