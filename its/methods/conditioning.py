"""Embeddings of prompts, with transitions to other prompts and with control pictures."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from its.diffusion.guidance import TextCache
from its.diffusion.noise import slerp
from its.diffusion.windows import Layout
from its.errors import UserError
from its.interfaces import NoiseExpert
from its.media.edges import find_edges
from its.methods.media_cache import MediaCache
from its.specs.material import Control
from its.specs.media import read_picture
from its.specs.spec import SampleSpec


def check_control(spec: SampleSpec, experts: Sequence[NoiseExpert]) -> None:
    """Check that a spec has a control picture for each control net of the experts.

    Raises:
        UserError: it does not, or no expert has a control net.
    """
    given, counts = len(spec.material.controls), sorted({expert.controls for expert in experts} - {0})
    if given and not counts:
        raise UserError(
            f"{spec.source}: control: no expert has a control net; set one in the config, for example with "
            "--config outline"
        )
    if given and len(counts) > 1:
        numbers = " and ".join(map(str, counts))
        raise UserError(f"model.experts have {numbers} control nets; expected equal numbers, for the same pictures")
    if given and counts != [given]:
        raise UserError(
            f"{spec.source}: the number of control pictures is {given}; expected {counts[0]}, one for each control net"
        )


def check_transition(spec: SampleSpec, layout: Layout | None) -> None:
    """Check that a transition to other prompts along the canvas has several windows.

    Raises:
        UserError: it does not.
    """
    to = spec.transition
    if to is None or to.fraction is not None or dict(to.prompts) == dict(spec.prompts):
        return
    if layout is None or len(layout.starts) == 1:
        raise UserError(
            f"{spec.source}: interpolate: a canvas with several prompts needs several windows, since each has its own: "
            "set model.windows, for example {width: 1024, stride: 512}, and a wider model.canvas"
        )


def transition_noise(specs: Sequence[SampleSpec], begin: Tensor, end: Tensor, *, loop: bool) -> Tensor:
    """Interpolate noise (b, c, h, w) spherically between the specs' seeds and those of the other ends."""
    columns = begin.shape[-1]
    along = Layout.of(columns, width=1, stride=1, circular=loop).fractions
    table = [_fractions(spec, along) for spec in specs]
    return slerp(begin, end, torch.tensor(table, dtype=begin.dtype, device=begin.device)[:, None, None])


def embed_prompts(
    expert: NoiseExpert,
    encode: TextCache,
    name: str,
    specs: Sequence[SampleSpec],
    layout: Layout | None,
    device: torch.device,
) -> Tensor:
    """Return the embeddings (b, ...) of the specs' prompts for an expert. Transitions are linear.

    With windows, and a transition in the batch, each window has its own embedding: (b, n, ...).
    """
    text = encode([spec.prompts[name] for spec in specs], device)
    if all(spec.transition is None for spec in specs):
        return text
    ends = [spec.prompts if spec.transition is None else spec.transition.prompts for spec in specs]
    table = [_fractions(spec, [0.0] if layout is None else layout.fractions) for spec in specs]
    fractions = torch.tensor(table, dtype=text.dtype, device=device)
    if layout is None:
        fractions = fractions[:, 0]
    fractions = fractions[(...,) + (None,) * (text.ndim - fractions.ndim)]
    return torch.lerp(text, encode([prompts[name] for prompts in ends], device), fractions)


def _fractions(spec: SampleSpec, along: Sequence[float]) -> Sequence[float]:
    """Return the position in the spec's transition at each position along the canvas."""
    to = spec.transition
    if to is not None and to.fraction is None:
        return along
    return [0.0 if to is None or to.fraction is None else to.fraction] * len(along)


def read_controls(
    specs: Sequence[SampleSpec], count: int, *, canvas: tuple[int, int], trim: int, cached: MediaCache
) -> tuple[Tensor, Tensor] | None:
    """Read the specs' control pictures for an expert with `count` control nets.

    Returns:
        Pictures (b, k, 3, H, W) in [0, 1] on black, and their scales (b, k), 0 for specs without pictures; None if
        no spec has any, or the expert no control net.
    """
    if not count or not any(spec.material.controls for spec in specs):
        return None

    def read(control: Control) -> Tensor:
        transform = _draw_edges if control.edges else None
        return cached(
            f"control {control.edges} {control.file.sha256}",
            lambda: read_picture(control.file, canvas, trim=trim, background=0, transform=transform),
        )

    blank = [torch.zeros(3, *canvas)] * count
    pictures = [list(map(read, spec.material.controls)) or blank for spec in specs]
    scales = [[control.scale for control in spec.material.controls] or [0.0] * count for spec in specs]
    return torch.stack([torch.stack(row) for row in pictures]), torch.tensor(scales)


def _draw_edges(picture: Tensor) -> Tensor:
    return find_edges(picture.mean(0, keepdim=True)).expand(3, -1, -1)
