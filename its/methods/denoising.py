"""Multimodal denoising, the paper's main method: experts of one latent space denoise one canvas together."""

from __future__ import annotations

import itertools
import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from its.data import Row
from its.errors import UserError
from its.guidance import GuidedExpert, TextCache
from its.interfaces import Colorizer, Combiner, LatentCodec, NoiseExpert, Part, Scheduler, Step, Vocoder
from its.methods import fit
from its.methods.base import Method
from its.noise import generators, initial_noise
from its.outputs.sample import Result, Sample
from its.sampling import denoise
from its.sweep import Process, batch_key, joined
from its.weights import WeightsNotFound


class MultimodalDenoising(Method):
    """Puts the parts together and turns a batch of rows into samples: the composition root, and nothing more."""

    def __init__(
        self,
        *,
        experts: dict[str, NoiseExpert],
        combiner: Combiner,
        scheduler: Scheduler,
        vocoder: Vocoder,
        codec: LatentCodec | None = None,
        colorizer: Colorizer | None = None,
        steps: int = 100,
        canvas: tuple[int, int] = (256, 1024),
        trim: int = 32,
        noise_dtype: Literal["float32", "float16"] = "float32",
        fallback: str | None = None,
    ) -> None:
        """Args:
        experts: who denoises, by names that prompts, guidance scales and weights refer to.
        combiner: makes one noise estimate of theirs.
        scheduler: of the reverse process, the same for all.
        vocoder: plays the spectrogram.
        codec: decodes the latents; by default the ones that the experts bring.
        colorizer: makes a colour picture of the gray one.
        steps: of the reverse process.
        canvas: rows and columns of the picture. Rows are mel bands.
        trim: columns cut from the end, with their sound: padding of Auffusion's training data.
        noise_dtype: `float16` replays seeds published by the paper's authors.
        fallback: pack of weights to take as a whole where the named ones can't be had; null for an error.
        """
        super().__init__(fallback=fallback)
        self.experts = nn.ModuleDict(experts)
        self.process = Process(combiner=combiner, scheduler=scheduler, steps=steps)
        self.vocoder = vocoder
        self.colorizer = colorizer
        self.canvas = canvas
        self.trim = trim
        self.noise_dtype = noise_dtype
        fit.check_experts(experts)
        fit.check_canvas(canvas, trim)
        self.process.check()
        fit.check_combiner(combiner, list(experts))
        self._picture_expert, sound_expert = self._first(of_sound=False), self._first(of_sound=True)
        self.picture_codec = codec or experts[self._picture_expert].codec()
        alone = codec is not None or sound_expert == self._picture_expert
        self.sound_codec = self.picture_codec if alone else experts[sound_expert].codec()
        self._texts: dict[str, TextCache] = {}
        self._processes: dict[str, Process] = {}
        self._largest_batch = sys.maxsize

    @property
    def expert_names(self) -> list[str]:
        """Who needs a prompt in every row."""
        return list(self.experts)

    def prepare(self) -> None:
        """Find all weights and check that the parts fit."""
        for key, part in self._parts():
            try:
                part.prepare()
            except WeightsNotFound as missing:
                raise WeightsNotFound(f"model.{key}: {missing}") from None
            except UserError as error:
                raise UserError(f"model.{key}: {error}") from None
        fit.check_canvas_for(self.canvas, self.sound_codec, self.vocoder)
        fit.check_formats(experts=dict(self._experts()), vocoder=self.vocoder)
        if self.sound_codec.provenance() == self.picture_codec.provenance() is not None:
            self.sound_codec = self.picture_codec  # the same weights: one to load, one decoding pass
        records = {key: part.provenance() for key, part in self._parts()}
        self.provenance = {key: record for key, record in records.items() if record is not None}

    def configure_model(self) -> None:
        """Load all weights. Lightning may call this more than once."""
        for key, part in self._parts():
            try:
                part.load()
            except (UserError, torch.OutOfMemoryError):
                raise
            except (OSError, ValueError, KeyError, RuntimeError) as error:  # what libraries raise of damaged files
                reason = str(error).strip().partition("\n")[0]
                raise UserError(f"model.{key}: its weights can't be read: {type(error).__name__}: {reason}") from error
        if self.sound_codec is not self.picture_codec and _same_tensors(self.sound_codec, self.picture_codec):
            self.sound_codec = self.picture_codec  # the same tensors from two places
        self.eval().requires_grad_(False)

    def definition(self, row: Row) -> dict[str, Any]:
        """Settings, and the weights by what they are instead of where."""
        weights = {
            key: {k: v for k, v in record.items() if k != "name" or "sha256" not in record}
            for key, record in self.provenance.items()
        }
        process = self._process_of(row)
        experts = {name: expert.describe(without=_WHERE) for name, expert in self._experts()}
        settings = {
            "method": "multimodal denoising",
            "experts": experts,
            "combiner": process.combiner.describe(),
            "scheduler": process.scheduler.describe(),
            "vocoder": self.vocoder.describe(without=_WHERE),
            "colorizer": None if self.colorizer is None else self.colorizer.describe(without=_WHERE),
            "steps": process.steps,
            "canvas": list(self.canvas),
            "trim": self.trim,
            "noise_dtype": self.noise_dtype,
        }
        return {"settings": settings, "weights": weights}

    def predict_step(self, batch: list[Row], batch_idx: int = 0) -> list[Sample]:
        """Rows -> samples.

        A batch that does not fit into the device's memory is halved, with the same noise for each sample. A row that
        is not finite in half precision is made once more in float32. What raises gives failed samples, so that the
        other batches go on.
        """
        samples: list[Sample] = []
        if self.stopped is not None:
            return samples
        while rest := batch[len(samples) :]:
            rows = self._together(rest)[: self._largest_batch]
            made = self._make_carefully(rows)
            if made is not None:
                samples += made
                continue
            self._largest_batch = len(rows) // 2
            torch.cuda.empty_cache()
            warnings.warn(f"out of memory at a batch of {len(rows)}: going on with {self._largest_batch}", stacklevel=1)
        return samples

    def _process_of(self, row: Row) -> Process:
        """The process with the row's settings, always the same object for the same settings."""
        if not row.settings:
            return self.process
        key = json.dumps(dict(row.settings), sort_keys=True)
        if key not in self._processes:
            changed = self.process.changed(row.settings)
            changed.check()
            fit.check_combiner(changed.combiner, self.expert_names)
            self._processes[key] = changed
        return self._processes[key]

    def _together(self, rows: list[Row]) -> list[Row]:
        """The first rows that can go through one loop."""
        key = batch_key(self._process_of(rows[0]))
        return list(itertools.takewhile(lambda row: batch_key(self._process_of(row)) == key, rows))

    def _make_carefully(self, rows: list[Row]) -> list[Sample] | None:
        """Samples, failed or not; None if the batch is too large for the device."""
        try:
            samples = self._make(rows)
        except torch.OutOfMemoryError as error:
            return _failed(rows, error) if len(rows) == 1 else None
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything, and no row may stop the others
            if len(rows) == 1:
                return _failed(rows, error)
            return [sample for row in rows for sample in self._make_carefully([row]) or []]
        return [self._redo(sample) if sample.result is None and self._is_half else sample for sample in samples]

    @property
    def _is_half(self) -> bool:
        return self._trainer is not None and str(self.trainer.precision) not in ("32-true", "64-true")

    def _redo(self, sample: Sample) -> Sample:
        """Make a row in float32 with the weights that there are."""
        dtypes = [(part, next((p.dtype for p in part.parameters()), torch.float32)) for _, part in self._parts()]
        try:
            for part, _ in dtypes:
                part.float()
            self._texts.clear()
            with torch.autocast(self.device.type, enabled=False):
                (again,) = self._make([sample.row])
        except Exception as error:  # noqa: BLE001 - as above
            (again,) = _failed([sample.row], error)
        finally:
            for part, dtype in dtypes:
                part.to(dtype)
            self._texts.clear()
        return replace(again, precision="32-true")

    def _make(self, rows: Sequence[Row]) -> list[Sample]:
        clock: dict[str, float] = {}
        process = joined([self._process_of(row) for row in rows])
        with _timed(clock, "text", self.device):
            experts = {name: self._guided(name, expert, rows) for name, expert in self._experts()}
        with _timed(clock, "denoise", self.device):
            shape = self.sound_codec.latent_shape(self.canvas)
            sources = generators([row.seed for row in rows])
            noise = initial_noise(sources, shape, dtype=getattr(torch, self.noise_dtype))
            latents = denoise(
                noise.to(self.device),
                experts=experts,
                combiner=process.combiner,
                scheduler=process.scheduler,
                steps=process.steps,
                on_step=self._report(len(rows)),
            )
        with _timed(clock, "decode", self.device):
            heard = self.sound_codec.decode(latents).float()
            seen = heard if self.picture_codec is self.sound_codec else self.picture_codec.decode(latents).float()
            spectrogram = heard.mean(1, keepdim=True)
        with _timed(clock, "vocode", self.device):
            waveform = self._play(spectrogram).cpu()
        with _timed(clock, "color", self.device):
            gray = self._cut(spectrogram)
            color = self._color(gray, rows, sources)
        gray, picture, latents = gray.cpu(), self._cut(seen).cpu(), latents.float().cpu()
        clock = {stage: round(seconds, 4) for stage, seconds in clock.items()} | {"batch_size": len(rows)}
        samples = []
        for i, row in enumerate(rows):
            stages = {
                "latents": latents,
                "spectrogram": gray,
                "picture": picture,
                "sound": waveform,
                "color": color,
            }
            if wrong := [name for name, x in stages.items() if x is not None and not x[i].isfinite().all()]:
                samples.append(Sample(row=row, error=f"not finite: the {wrong[0]}", timings=clock))
                continue
            result = Result(
                latents=latents[i],
                spectrogram=gray[i, 0],
                picture=picture[i],
                waveform=waveform[i],
                color=None if color is None else color[i],
                sample_rate=self.vocoder.format.sample_rate,
            )
            samples.append(Sample(row=row, result=result, timings=clock))
        return samples

    def _guided(self, name: str, expert: NoiseExpert, rows: Sequence[Row]) -> GuidedExpert:
        text = self._texts.setdefault(name, TextCache(expert))
        return GuidedExpert(
            expert,
            text=text([row.prompts[name] for row in rows]),
            null_text=text([row.negative_prompts[name] for row in rows]),
            scales=[row.guidance_scale[name] for row in rows],
        )

    def _play(self, spectrogram: Tensor) -> Tensor:
        """(b, 1, h, w) gray -> (b, n) sound, trimmed; in float32 also where Lightning casts everything else."""
        with _no_tf32(), torch.autocast(self.device.type, enabled=False):
            waveform = self.vocoder(self.vocoder.format.to_log_mel(spectrogram))
        expected = self.canvas[1] * self.vocoder.format.hop_length
        if waveform.shape[-1] != expected:
            name = type(self.vocoder).__name__
            raise ValueError(f"{name} gave {waveform.shape[-1]} samples of sound; expected {expected}")
        return waveform[:, : (self.canvas[1] - self.trim) * self.vocoder.format.hop_length]

    def _color(self, gray: Tensor, rows: Sequence[Row], sources: Sequence[torch.Generator]) -> Tensor | None:
        """(b, 1, h, w) gray -> (b, 3, h, w) on the CPU, with the prompt that the paper gives its colorizer."""
        if self.colorizer is None:
            return None
        prompts = [f"a colorful photo of {row.prompts[self._picture_expert]}" for row in rows]
        return self.colorizer(gray, prompts, sources).float().cpu()

    def _cut(self, picture: Tensor) -> Tensor:
        return picture[..., : self.canvas[1] - self.trim]

    def _report(self, batch: int) -> Callable[[Step], None] | None:
        on_step = self.on_step
        return None if on_step is None else lambda step: on_step(step, batch)

    def _experts(self) -> Iterator[tuple[str, NoiseExpert]]:
        for name, expert in self.experts.items():
            assert isinstance(expert, NoiseExpert)
            yield name, expert

    def _parts(self) -> list[tuple[str, Part]]:
        """Everything that may have weights, by its key in the config."""
        parts: list[tuple[str, Part]] = [(f"experts.{name}", expert) for name, expert in self._experts()]
        parts += [("codec", self.picture_codec), ("vocoder", self.vocoder)]
        if self.sound_codec is not self.picture_codec:
            parts.append(("sound_codec", self.sound_codec))
        if self.colorizer is not None:
            parts.append(("colorizer", self.colorizer))
        return parts

    def _first(self, *, of_sound: bool) -> str:
        """Name of the first expert of a kind, or of the first one if there is none of it."""
        kinds = {name: expert.format is not None for name, expert in self._experts()}
        return next((name for name, sounds in kinds.items() if sounds is of_sound), self.expert_names[0])


def _failed(rows: Sequence[Row], error: Exception) -> list[Sample]:
    reason = f"{type(error).__name__}: {error}"
    where = "".join(traceback.format_exception(error))
    return [Sample(row=row, error=reason, traceback=where) for row in rows]


_WHERE = ("weights", "revision", "channels_last")
"""Arguments that say where weights are and how they lie in memory; what they are is in the provenance."""


def _no_tf32() -> AbstractContextManager[None]:
    on = torch.backends.cudnn.enabled  # by default these flags would turn cuDNN off
    return torch.backends.cudnn.flags(enabled=on, allow_tf32=False)


def _same_tensors(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return type(one) is type(other) and a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@contextmanager
def _timed(clock: dict[str, float], stage: str, device: torch.device) -> Iterator[None]:
    begin = time.perf_counter()
    yield
    if device.type == "cuda":
        torch.cuda.synchronize(device)  # a few times a batch, never within the loop
    clock[stage] = time.perf_counter() - begin
