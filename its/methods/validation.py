"""Check that a method's components are compatible. All checks run before weights are loaded, except `check_encoder`.

All functions raise UserError with the config key, its value and the expected one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import torch

from its import registry
from its.audio.spectrogram import SpectrogramFormat
from its.errors import UserError, nearest
from its.interfaces import Colorizer, LatentCodec, NoiseExpert, Plugin, Scheduler, Vocoder
from its.specs.sweep import Process

SCHEDULE_TOLERANCE = 0.01
"""Tolerance of the signal coefficient sqrt(alpha_t). Rounding of timesteps changes it by less than 0.002."""
MAX_CANVAS = 2**24
"""Pixels: eleven minutes of sound at 256 bands. Larger values are typing errors and would exhaust memory."""


def check_not_empty(experts: Mapping[str, NoiseExpert]) -> None:
    """Require at least one expert."""
    if not experts:
        raise UserError("model.experts is empty; expected at least one expert")


def check_latent_spaces(experts: Mapping[str, NoiseExpert]) -> None:
    """Require equal latent spaces. Valid after `find`."""
    spaces = {name: expert.latent_space for name, expert in experts.items()}
    if len(set(spaces.values())) > 1:
        listed = ", ".join(f"{name}: {space}" for name, space in spaces.items())
        raise UserError(f"model.experts have different latent spaces ({listed}): choose experts with equal ones")


def check_codecs(experts: Mapping[str, NoiseExpert], codecs: Mapping[str, LatentCodec]) -> None:
    """Require that codecs, given by the names of their experts, have the experts' latent spaces. Valid after `find`."""
    for name, codec in codecs.items():
        space, expected = codec.latent_space, experts[name].latent_space
        if space is not None and space != expected:
            raise UserError(
                f"model.codec {type(codec).__name__} has the latent space {space}, but model.experts.{name} has "
                f"{expected}: set model.codec null to use the expert's own autoencoder, or choose one with equal "
                "configuration"
            )


def check_schedule(experts: Mapping[str, NoiseExpert], scheduler: Scheduler, steps: Mapping[str, int]) -> None:
    """Require that the scheduler has the noise schedule of the experts' training. Valid after `find`.

    Since z_t is linear in z_0 and the noise, both coefficients are computed with the plan's `add_noise`.
    """
    one, zero = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    for name, expert in experts.items():
        alphas, plan = expert.alphas(), scheduler.plan(steps[name])
        for index, timestep in enumerate(plan.timesteps.tolist()):
            trained = float(alphas[timestep]) ** 0.5 if timestep < len(alphas) else float("nan")
            signal, sigma = (float(plan.add_noise(*x, index)) for x in ((one, zero), (zero, one)))
            if not abs(signal - trained) < SCHEDULE_TOLERANCE or abs(signal**2 + sigma**2 - 1) > SCHEDULE_TOLERANCE:
                raise UserError(
                    f"model.scheduler {type(scheduler).__name__} has another noise schedule than model.experts.{name} "
                    f"was trained with: at timestep {timestep} the signal coefficient is {signal:.3f}, expected "
                    f"{trained:.3f} of {len(alphas)} timesteps. Give the scheduler the beta_schedule, beta_start, "
                    "beta_end and train_timesteps of the expert's scheduler_config.json, or choose another expert"
                )


def check_pair(experts: Mapping[str, NoiseExpert]) -> None:
    """Require one expert for pictures and one for spectrograms. Their latent spaces may differ."""
    kinds = {name: "spectrograms" if expert.format is not None else "pictures" for name, expert in experts.items()}
    if sorted(kinds.values()) != ["pictures", "spectrograms"]:
        listed = ", ".join(f"{name}: {kind}" for name, kind in kinds.items()) or "none"
        raise UserError(f"model.experts: expected one for pictures and one for spectrograms, got {listed}")


def check_names(key: str, values: Collection[str], experts: Collection[str], *, remedy: str = "") -> None:
    """Require a value for every expert and for no other name."""
    for name in values:
        if name not in experts:
            listed = ", ".join(experts)
            raise UserError(f"{key} contains {name}, but the experts are {listed}{remedy}.{nearest(name, experts)}")
    if missing := [name for name in experts if name not in values]:
        raise UserError(f"{key} has no value for {', '.join(missing)}")


def check_canvas(canvas: tuple[int, int], trim: int) -> None:
    """Require a canvas of reasonable size with columns left after trimming."""
    rows, columns = canvas
    if rows < 1 or columns < 1 or rows * columns > MAX_CANVAS:
        raise UserError(f"model.canvas is [{rows}, {columns}]; expected 1 to {MAX_CANVAS} pixels in total")
    if not 0 <= trim < columns:
        raise UserError(f"model.trim is {trim}; expected 0 to less than the canvas's {columns} columns")


def check_interval(interval: tuple[float, float] | None) -> None:
    """Require a guidance interval within the reverse process."""
    if interval is not None and not 0 <= interval[0] < interval[1] <= 1:
        raise UserError(
            f"model.guidance_interval is {list(interval)}; expected [begin, end] with 0 <= begin < end <= 1, "
            "fractions of the reverse process"
        )


def check_loop(*, loop: bool, trim: int) -> None:
    """Require that no columns are cut from the end of a loop."""
    if loop and trim:
        raise UserError(f"model.trim is {trim}; expected 0 with model.loop, whose end continues at its beginning")


def check_windows(width: int, stride: int, *, multiple_of: int = 1) -> None:
    """Require windows without gaps that consist of whole latents."""
    for name, value in (("width", width), ("stride", stride)):
        if value % multiple_of:
            raise UserError(f"model.windows has {name} {value}; expected a multiple of {multiple_of}, one latent")
    if not 1 <= stride <= width:
        raise UserError(
            f"model.windows has width {width} and stride {stride}; expected a stride of 1 to the width, since columns "
            "between the windows would not be denoised. Half of the width is a good stride"
        )


def check_combiner(process: Process, experts: Sequence[str], canvas: tuple[int, int]) -> None:
    """Require a weight for every expert and for no other name, and support of steps and canvas."""
    combiner, kind = process.combiner, type(process.combiner).__name__
    check_names(f"model.combiner: {kind}", combiner.weights(0.0), experts, remedy=": set it to null in the combiner")
    check_components([(f"combiner: {kind}", combiner)], canvas=canvas, steps=process.steps)


def check_components(components: Sequence[tuple[str, Plugin]], *, canvas: tuple[int, int], steps: int) -> None:
    """Require that components, given with their config keys, support canvas and steps. Valid after `find`."""
    for key, component in components:
        try:
            component.check(canvas=canvas, steps=steps)
        except ValueError as error:
            raise UserError(f"model.{key}: {error}") from None


def check_latent_shape(canvas: tuple[int, int], codec: LatentCodec, *, key: str = "canvas") -> None:
    """Require that the codec supports the canvas."""
    try:
        codec.latent_shape(canvas)
    except ValueError as error:
        raise UserError(f"model.{key}: {error}") from None


def check_bands(canvas: tuple[int, int], vocoder: Vocoder) -> None:
    """Require one row of the canvas for each mel band of the vocoder."""
    bands, name = vocoder.format.n_mels, type(vocoder).__name__
    if bands != canvas[0]:
        raise UserError(
            f"model.canvas has {canvas[0]} rows, but the vocoder {name} expects {bands} mel bands: "
            f"choose a canvas of {bands} rows or another vocoder"
        )


def check_formats(experts: Mapping[str, NoiseExpert], vocoder: Vocoder) -> None:
    """Require one spectrogram format for experts and vocoder, apart from the number of bands."""
    expected, kind = vocoder.format, type(vocoder).__name__
    formats = {name: expert.format for name, expert in experts.items() if expert.format is not None}
    for name, form in formats.items():
        for other_name, other in formats.items():
            if not _compatible(form, other):
                raise UserError(
                    f"model.experts.{name} has the spectrogram format {form.name}, but model.experts.{other_name} has "
                    f"{other.name}: choose experts with one format"
                )
        if not _compatible(form, expected):
            raise UserError(
                f"model.vocoder {kind} has the spectrogram format {expected.name}, but model.experts.{name} has "
                f"{form.name}: {_remedy(vocoder)}"
            )


def _compatible(one: SpectrogramFormat, other: SpectrogramFormat) -> bool:
    return replace(one, n_mels=other.n_mels, name=other.name) == other


def _remedy(vocoder: Vocoder) -> str:
    if type(vocoder).set_format is not Vocoder.set_format:
        return "remove model.vocoder.init_args.format to use the experts' format"
    vocoders = registry.classes("Vocoder").items()
    flexible = [n for n, cls in vocoders if issubclass(cls, Vocoder) and cls.set_format is not Vocoder.set_format]
    return f"set model.vocoder to {' or '.join(flexible) or 'one'} that supports any format"


def check_encoder(name: str, codec: LatentCodec, size: tuple[int, int], device: torch.device) -> None:
    """Require that a loaded codec encodes a picture of this size with gradients."""
    with torch.inference_mode(False), torch.enable_grad():
        gray = torch.full((1, 3, *size), 0.5, dtype=torch.float32, device=device, requires_grad=True)
        try:
            torch.autograd.grad(codec.encode(gray).sum(), gray)
        except torch.OutOfMemoryError:
            raise
        except (NotImplementedError, RuntimeError) as error:
            reason = str(error).partition("\n")[0] or type(error).__name__
            raise UserError(
                f"model.experts.{name}: score distillation backpropagates through the encoder, but "
                f"{type(codec).__name__} can't encode with gradients ({reason}): choose another expert"
            ) from error


def check_colorizer(colorizer: Colorizer | None, experts: Mapping[str, NoiseExpert]) -> None:
    """Require an image prompt if there is a colorizer."""
    if colorizer is not None and all(expert.format is not None for expert in experts.values()):
        raise UserError(
            f"model.colorizer {type(colorizer).__name__} needs an image prompt, but all experts are for sound "
            f"({', '.join(experts)}): set model.colorizer to null, or colorize the run afterwards with "
            "`its colorize RUN --prompt TEXT`"
        )
