"""Batches that are made so that no row is lost to another, to too little memory, or to half precision."""

from __future__ import annotations

import itertools
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from its.methods.sample import Sample
from its.specs.spec import SampleSpec

if TYPE_CHECKING:
    from its.methods.base import Method


class Careful:
    """Makes a method's rows.

    A batch that does not fit into the device's memory is halved, with the same noise for each sample. A row that is
    not finite in half precision is made once more in float32. What raises gives failed samples, so that the other
    rows go on.
    """

    def __init__(self, method: Method) -> None:
        self.method = method
        self._largest = sys.maxsize
        """What fits into memory, as far as is known."""
        self._usual = 0
        """The size that smaller batches are filled up to, where shapes are fixed."""

    def load(self) -> None:
        """Nothing is needed but the method's own weights."""

    def __call__(self, batch: Sequence[SampleSpec]) -> list[Sample]:
        """Rows -> samples, one each."""
        samples: list[Sample] = []
        while rest := batch[len(samples) :]:
            rows = self._together(rest)
            made = self._try(rows)
            if made is not None:
                samples += made
                continue
            self._largest = len(rows) // 2
            self.method.release()
            torch.cuda.empty_cache()
            warnings.warn(f"out of memory at a batch of {len(rows)}: going on with {self._largest}", stacklevel=1)
        return samples

    def _together(self, rows: Sequence[SampleSpec]) -> list[SampleSpec]:
        """The first rows that can go through one loop."""
        key = self.method.batch_key(rows[0])
        alike = itertools.takewhile(lambda row: self.method.batch_key(row) == key, rows)
        return list(itertools.islice(alike, self._largest))

    def _try(self, rows: list[SampleSpec]) -> list[Sample] | None:
        """Samples, failed or not; None if the batch is too large for the device."""
        try:
            samples = self._make(rows)
        except torch.OutOfMemoryError as error:
            return _failed(rows, error) if len(rows) == 1 else None
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and no row may stop the others
            if len(rows) == 1:
                return _failed(rows, error)
            return [sample for row in rows for sample in self._try([row]) or []]
        return [self._redo(sample) if sample.result is None and self._is_half else sample for sample in samples]

    def _make(self, rows: list[SampleSpec]) -> list[Sample]:
        """As the method makes them. Compiled for one size, the last row stands in for those that are not there."""
        if not self.method.fixed_shapes:
            return self.method.make(rows)
        self._usual = min(max(self._usual, len(rows)), self._largest)
        filler = [rows[-1]] * (self._usual - len(rows))
        return self.method.make([*rows, *filler])[: len(rows)]

    @property
    def _is_half(self) -> bool:
        trainer = self.method._trainer  # the property raises where there is none
        return trainer is not None and str(trainer.precision) not in ("32-true", "64-true")

    def _redo(self, sample: Sample) -> Sample:
        """Make a row in float32 with the weights that there are."""
        method = self.method
        dtypes = [(part, next((p.dtype for p in part.parameters()), torch.float32)) for _, part in method.parts()]
        method.release()
        try:
            for part, _ in dtypes:
                part.float()
            method.forget_texts()
            with torch.autocast(method.device.type, enabled=False):
                (again,) = method.make([sample.row])
        except Exception as error:  # noqa: BLE001 - as above
            (again,) = _failed([sample.row], error)
        finally:
            for part, dtype in dtypes:
                part.to(dtype)
            method.forget_texts()
            method.release()
        return replace(again, precision="32-true")


def _failed(rows: Sequence[SampleSpec], error: Exception) -> list[Sample]:
    reason = f"{type(error).__name__}: {error}"
    where = "".join(traceback.format_exception(error))
    return [Sample(row=row, error=reason, traceback=where) for row in rows]
