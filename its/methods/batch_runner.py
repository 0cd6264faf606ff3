"""Runs batches so that no sample is lost to another one's error, to too little memory, or to half precision."""

from __future__ import annotations

import itertools
import sys
import traceback
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch

from its.methods.sample import Sample
from its.privacy import scrub
from its.specs.spec import SampleSpec
from its.user_cache import read, write

KIND = "batch_size"
"""Of what is remembered between runs."""


class _Method(Protocol):
    """The members of `its.methods.base.Method` that are used here."""

    fixed_shapes: bool

    @property
    def device(self) -> torch.device: ...
    @property
    def memory_key(self) -> str: ...
    @property
    def half_precision(self) -> bool: ...
    def batch_key(self, spec: SampleSpec, /) -> str: ...
    def make(self, specs: Sequence[SampleSpec], /) -> list[Sample]: ...
    def make_in_float32(self, spec: SampleSpec, /) -> Sample: ...
    def release(self) -> None: ...


class BatchRunner:
    """Makes the samples of a batch, whatever fails.

    A batch that does not fit into the device's memory is halved, which is remembered for later runs; each sample keeps
    its noise. A sample that is not finite in half precision is made once more in float32. An exception becomes failed
    samples, and the others go on.
    """

    def __init__(self, method: _Method) -> None:
        self.method = method
        self._largest = sys.maxsize
        """Largest batch that may fit into memory."""
        self._usual = 0
        """Size that smaller batches are filled up to, where shapes are fixed."""
        self._key: tuple[Any, ...] | None = None
        """Device, its free memory and the method's needs: what the largest batch depends on."""

    def load(self) -> None:
        """Load what is needed besides the method's weights, which are loaded. Called once, before the first batch.

        Raises:
            UserError: it can't be loaded.
        """
        if self.method.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self.method.device)
            name = torch.cuda.get_device_name(self.method.device)
            self._key = name, total, free // 2**30, self.method.memory_key
            known = read(KIND, self._key) or ""
            self._largest = int(known) if known.isdecimal() and int(known) > 0 else self._largest

    def __call__(self, batch: Sequence[SampleSpec]) -> list[Sample]:
        """A sample for each spec, in their order."""
        samples: list[Sample] = []
        while rest := batch[len(samples) :]:
            specs = self._next(rest)
            made = self._try(specs)
            if made is not None:
                samples += made
                continue
            self._largest = len(specs) // 2
            if self._key is not None:
                write(KIND, self._key, str(self._largest))
            self.method.release()
            torch.cuda.empty_cache()
            warnings.warn(f"out of memory at a batch of {len(specs)}: going on with {self._largest}", stacklevel=1)
        return samples

    def _next(self, specs: Sequence[SampleSpec]) -> list[SampleSpec]:
        """The first specs, as many as can share a batch."""
        key = self.method.batch_key(specs[0])
        alike = itertools.takewhile(lambda spec: self.method.batch_key(spec) == key, specs)
        return list(itertools.islice(alike, self._largest))

    def _try(self, specs: list[SampleSpec]) -> list[Sample] | None:
        """Samples, failed or not; None if the batch is too large for the device."""
        try:
            samples = self._make(specs)
        except torch.OutOfMemoryError as error:
            return [_failed(specs[0], error)] if len(specs) == 1 else None
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and no sample may stop the others
            if len(specs) == 1:
                return [_failed(specs[0], error)]
            return [sample for spec in specs for sample in self._try([spec]) or []]
        if not self.method.half_precision:
            return samples
        return [self._in_float32(sample.spec) if sample.result is None else sample for sample in samples]

    def _make(self, specs: list[SampleSpec]) -> list[Sample]:
        """The method's samples; where shapes are fixed, the last spec is repeated to fill the batch up."""
        if not self.method.fixed_shapes:
            return self.method.make(specs)
        self._usual = min(max(self._usual, len(specs)), self._largest)
        filler = [specs[-1]] * (self._usual - len(specs))
        return self.method.make([*specs, *filler])[: len(specs)]

    def _in_float32(self, spec: SampleSpec) -> Sample:
        try:
            sample = self.method.make_in_float32(spec)
        except Exception as error:  # noqa: BLE001 - as above
            sample = _failed(spec, error)
        return replace(sample, precision="32-true")


def _failed(spec: SampleSpec, error: Exception) -> Sample:
    reason = f"{type(error).__name__}: {error}"
    return Sample(spec=spec, error=scrub(reason), traceback=scrub("".join(traceback.format_exception(error))))
