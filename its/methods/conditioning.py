"""Embeddings of prompts, with transitions to other prompts and with control pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from its.diffusion.guidance import TextCache
from its.diffusion.windows import Windows
from its.errors import UserError
from its.interfaces import NoiseExpert
from its.media.edges import find_edges
from its.specs.material import Control
from its.specs.media import read_picture
from its.specs.spec import SampleSpec


def check_control(spec: SampleSpec, experts: Sequence[NoiseExpert]) -> None:
    """Check that a spec has a control picture for each control net of the experts.

    Raises:
        UserError: it does not, or no expert has a control net.
    """
    given = len(spec.material.controls)
    counts = {expert.controls for expert in experts} - {0}
    if given and not counts:
        raise UserError(
            f"{spec.source}: control: no expert has a control net; set one in the config, for example with "
            "--config control"
        )
    if given and counts != {given}:
        needed = " or ".join(map(str, sorted(counts)))
        raise UserError(f"{spec.source}: control has {given} pictures; expected {needed}, one for each control net")


def check_transition(spec: SampleSpec, *, windows: bool) -> None:
    """Check that a transition along the canvas has windows.

    Raises:
        UserError: it has prompts that change, but the canvas is not divided into windows.
    """
    to = spec.transition
    if to is not None and to.fraction is None and not windows and dict(to.prompts) != dict(spec.prompts):
        raise UserError(
            f"{spec.source}: interpolate: canvas needs windows, since each has its own prompt: set model.windows, for "
            "example {width: 1024, stride: 512}, and a wider model.canvas"
        )


def embed_prompts(
    expert: NoiseExpert, encode: TextCache, name: str, specs: Sequence[SampleSpec], *, columns: int, device: torch.device
) -> Tensor:
    """Return the embeddings (b, ...) of the specs' prompts. Transitions are linear.

    Args:
        expert: expert that encodes.
        encode: its cache.
        name: name of the expert.
        specs: the samples.
        columns: columns of the latents, for transitions along the canvas.
        device: device of the result.
    """
    text = encode([spec.prompts[name] for spec in specs], device)
    if all(spec.transition is None for spec in specs):
        return text
    ends = [spec.prompts if spec.transition is None else spec.transition.prompts for spec in specs]
    other = encode([prompts[name] for prompts in ends], device)
    centers = expert.layout(columns).centers if isinstance(expert, Windows) else [0.5]
    fractions = torch.tensor([_fractions(spec, centers) for spec in specs], dtype=torch.float32, device=device)
    if not isinstance(expert, Windows):
        fractions = fractions[:, 0]
    fractions = fractions.view(*fractions.shape, *(1 for _ in range(text.ndim - fractions.ndim))).to(text.dtype)
    return torch.lerp(text.expand(torch.broadcast_shapes(text.shape, fractions.shape)), other, fractions)


def _fractions(spec: SampleSpec, centers: Sequence[float]) -> Sequence[float]:
    to = spec.transition
    if to is not None and to.fraction is None:
        return centers
    return [0.0 if to is None or to.fraction is None else to.fraction] * len(centers)


def add_controls(
    expert: NoiseExpert, text: Tensor, specs: Sequence[SampleSpec], *, canvas: tuple[int, int], trim: int
) -> Tensor:
    """Add the specs' control pictures to embeddings, if the expert has control nets and any spec has pictures."""
    if not expert.controls or not any(spec.material.controls for spec in specs):
        return text
    blank = torch.zeros(expert.controls, 3, *canvas)
    pictures = [_read(spec.material.controls, canvas, trim) if spec.material.controls else blank for spec in specs]
    scales = [[control.scale for control in spec.material.controls] or [0.0] * expert.controls for spec in specs]
    return expert.add_control(text, torch.stack(pictures).to(text.device), torch.tensor(scales, device=text.device))


def _read(controls: Sequence[Control], canvas: tuple[int, int], trim: int) -> Tensor:
    """Read control pictures (k, 3, H, W) in [0, 1]. Black surrounds them."""
    pictures = []
    for control in controls:
        size = canvas[0], canvas[1] - trim
        picture = read_picture(control.file, size, background=0)
        if control.edges:
            picture = find_edges(picture.mean(0, keepdim=True)).expand(3, -1, -1)
        pictures.append(torch.nn.functional.pad(picture, (0, trim)))
    return torch.stack(pictures)
