"""Whether the components of a method fit each other; all but the encoders are checked before weights are loaded.

All functions raise UserError, whose message names the key, what it is and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from its import registry
from its.audio.spectrogram import SpectrogramFormat
from its.errors import UserError, nearest
from its.interfaces import Colorizer, Component, LatentCodec, NoiseExpert, Scheduler, Vocoder
from its.specs.sweep import Process

SCHEDULE_TOLERANCE = 0.01
"""Of the signal's share, sqrt(alpha_t): a timestep that is rounded changes it by less than 0.002."""
LARGEST_CANVAS = 2**24
"""Pixels: eleven minutes of sound at 256 bands. More is a slip of the keyboard, and would fill the memory."""


def check_some(experts: Mapping[str, NoiseExpert]) -> None:
    """There is an expert."""
    if not experts:
        raise UserError("model.experts is empty; name at least one")


def check_latent_spaces(experts: Mapping[str, NoiseExpert]) -> None:
    """The experts share a latent space; they are found."""
    spaces = {name: expert.latent_space for name, expert in experts.items()}
    if len(set(spaces.values())) > 1:
        listed = ", ".join(f"{name}: {space}" for name, space in spaces.items())
        raise UserError(f"model.experts have different latent spaces ({listed}), so they can't share a canvas")


def check_codecs(experts: Mapping[str, NoiseExpert], codecs: Mapping[str, LatentCodec]) -> None:
    """The codec that decodes an expert's latents has its latent space; both are found.

    Args:
        experts: by name.
        codecs: by the name of the expert whose latents they decode.
    """
    for name, codec in codecs.items():
        space, expected = codec.latent_space, experts[name].latent_space
        if space is not None and space != expected:
            raise UserError(
                f"model.codec {type(codec).__name__} has the latent space {space}, but model.experts.{name} has "
                f"{expected}: take the expert's own autoencoder (model.codec null), or one of the same configuration"
            )


def check_schedule(experts: Mapping[str, NoiseExpert], scheduler: Scheduler, steps: Mapping[str, int]) -> None:
    """The scheduler has the noise schedule that each expert was trained with; they are found.

    z_t is linear in z_0 and the noise, so the plan's own `add_noise` gives the share of each at every step.
    """
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    for name, expert in experts.items():
        alphas, plan = expert.alphas(), scheduler.plan(steps[name])
        for index, timestep in enumerate(plan.timesteps.tolist()):
            known = timestep < len(alphas)
            trained = float(alphas[timestep]) ** 0.5 if known else float("nan")
            signal, sigma = (float(plan.add_noise(*x, index)) for x in ((one, zero), (zero, one)))
            if not abs(signal - trained) < SCHEDULE_TOLERANCE or abs(signal**2 + sigma**2 - 1) > SCHEDULE_TOLERANCE:
                raise UserError(
                    f"model.scheduler {type(scheduler).__name__} has another noise schedule than model.experts.{name} "
                    f"was trained with: at timestep {timestep} the signal's share is {signal:.3f}, expected "
                    f"{trained:.3f} of {len(alphas)} timesteps. Give the scheduler the beta_schedule, beta_start, "
                    "beta_end and train_timesteps of the expert's scheduler_config.json, or take another expert"
                )


def check_pair(experts: Mapping[str, NoiseExpert]) -> None:
    """There is one that draws pictures and one that draws spectrograms. They need not share a latent space."""
    kinds = {name: "spectrograms" if expert.format is not None else "pictures" for name, expert in experts.items()}
    if sorted(kinds.values()) != ["pictures", "spectrograms"]:
        listed = ", ".join(f"{name}: {kind}" for name, kind in kinds.items()) or "none"
        raise UserError(
            f"model.experts: expected one that draws pictures and one that draws spectrograms, got {listed}"
        )


def check_names(key: str, given: Mapping[str, object], experts: Mapping[str, NoiseExpert]) -> None:
    """Something is said of every expert and of nobody else."""
    for name in given:
        if name not in experts:
            raise UserError(f"{key} names {name}, but the experts are {', '.join(experts)}.{nearest(name, experts)}")
    if missing := [name for name in experts if name not in given]:
        raise UserError(f"{key} says nothing of {', '.join(missing)}")


def check_canvas(canvas: tuple[int, int], trim: int) -> None:
    """The canvas has a sane size, and something is left of it after the trim."""
    rows, columns = canvas
    if rows < 1 or columns < 1 or rows * columns > LARGEST_CANVAS:
        raise UserError(f"model.canvas is [{rows}, {columns}]; expected 1 to {LARGEST_CANVAS} pixels in all")
    if not 0 <= trim < columns:
        raise UserError(f"model.trim is {trim}; expected 0 to less than the canvas's {columns} columns")


def check_interval(interval: tuple[float, float] | None) -> None:
    """Begin and end of guidance lie in the reverse process, in this order."""
    if interval is not None and not 0 <= interval[0] < interval[1] <= 1:
        raise UserError(
            f"model.guidance_interval is {list(interval)}; expected [begin, end] with 0 <= begin < end <= 1, "
            "shares of the reverse process"
        )


def check_combiner(process: Process, experts: Sequence[str], canvas: tuple[int, int]) -> None:
    """The combiner has a weight for every expert and for nobody else, and suits steps and canvas."""
    combiner = process.combiner
    named, names = set(combiner.weights(0.0)), set(experts)
    kind = type(combiner).__name__
    for name in sorted(names - named):
        raise UserError(f"model.combiner: {kind} has no weight for expert {name}.{nearest(name, named)}")
    for name in sorted(named - names):
        raise UserError(
            f"model.combiner: {kind} names {name}, but the experts are {', '.join(experts)}: set {name} to null there."
            f"{nearest(name, names)}"
        )
    try:
        combiner.check(canvas=canvas, steps=process.steps)
    except ValueError as error:
        raise UserError(f"model.combiner: {kind}: {error}") from None


def check_parts(parts: Sequence[tuple[str, Component]], *, canvas: tuple[int, int], steps: int) -> None:
    """No part has objections to the canvas or the steps. They are prepared."""
    for key, part in parts:
        try:
            part.check(canvas=canvas, steps=steps)
        except ValueError as error:
            raise UserError(f"model.{key}: {error}") from None


def check_canvas_for(canvas: tuple[int, int], codec: LatentCodec, vocoder: Vocoder) -> None:
    """The codec's latents cover the canvas, and its rows are the vocoder's bands."""
    try:
        codec.latent_shape(canvas)
    except ValueError as error:
        raise UserError(f"model.canvas: {error}") from None
    check_bands(canvas, vocoder)


def check_bands(canvas: tuple[int, int], vocoder: Vocoder) -> None:
    """The canvas's rows are the vocoder's bands."""
    bands, name = vocoder.format.n_mels, type(vocoder).__name__
    if bands != canvas[0]:
        raise UserError(
            f"model.canvas has {canvas[0]} rows, but the vocoder {name} plays {bands} mel bands: "
            f"choose a canvas of {bands} rows or another vocoder"
        )


def check_formats(*, experts: Mapping[str, NoiseExpert], vocoder: Vocoder) -> None:
    """What the experts draw is one format, and the one that the vocoder plays.

    The number of bands may differ: it is the canvas's.
    """
    plays, kind = vocoder.format, type(vocoder).__name__
    drawn = {name: expert.format for name, expert in experts.items() if expert.format is not None}
    for name, draws in drawn.items():
        for other, form in drawn.items():
            if not _alike(draws, form):
                raise UserError(
                    f"model.experts.{name} draws spectrograms in the format {draws.name}, but "
                    f"model.experts.{other} in {form.name}'s: those that are heard together need one format"
                )
        if not _alike(draws, plays):
            raise UserError(
                f"model.vocoder {kind} plays spectrograms in the format {plays.name}, but expert {name} makes "
                f"{draws.name}'s: {_remedy(vocoder)}"
            )


def _alike(one: SpectrogramFormat, other: SpectrogramFormat) -> bool:
    return replace(one, n_mels=other.n_mels, name=other.name) == other


def _remedy(vocoder: Vocoder) -> str:
    kind = type(vocoder)
    if kind.set_format is not Vocoder.set_format:
        return f"leave model.vocoder.init_args.format out, and {kind.__name__} plays what the experts draw"
    found = registry.classes("Vocoder").items()
    any_format = [name for name, cls in found if issubclass(cls, Vocoder) and cls.set_format is not Vocoder.set_format]
    return f"set model.vocoder to {' or '.join(any_format) or 'one for that'}, which plays any format"


def check_encoder(name: str, codec: LatentCodec, view: tuple[int, int], device: torch.device) -> None:
    """An expert's codec, which is loaded, encodes a picture of this size with gradients."""
    with torch.inference_mode(False), torch.enable_grad():
        gray = torch.full((1, 3, *view), 0.5, dtype=torch.float32, device=device, requires_grad=True)
        try:
            torch.autograd.grad(codec.encode(gray).sum(), gray)
        except torch.OutOfMemoryError:
            raise
        except (NotImplementedError, RuntimeError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(
                f"model.experts.{name}: score distillation goes backwards through an expert's encoder, but "
                f"{type(codec).__name__} can't encode with gradients ({reason}): take another expert"
            ) from error


def check_color(*, colorizer: Colorizer | None, experts: Mapping[str, NoiseExpert]) -> None:
    """A colorizer has the prompt of a picture to go by."""
    if colorizer is not None and all(expert.format is not None for expert in experts.values()):
        raise UserError(
            f"model.colorizer {type(colorizer).__name__} has no prompt to go by, since no expert draws pictures "
            f"({', '.join(experts)} make sound): set model.colorizer to null, or colour the run afterwards with "
            "its colorize RUN --prompt TEXT"
        )
