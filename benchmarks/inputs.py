"""A folder of weights, with what each run would otherwise compute again: the float32 reference and the FLOP count."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import models
import ours
import torch
from counting import flop_of_a_sample
from devices import Device
from ours import Levers
from safetensors.torch import load_file, save_file
from torch import Tensor
from variants import of_ours

CHECK_STEPS = 10
"""Steps of the runs in which latents are compared: enough for both phases of the warm start."""
ABOUT, REFERENCE = "about.json", "reference.safetensors"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Weights in the shapes of the paper's models, and the sizes of the runs.

    Attributes:
        folder: of `models.write`.
        tiny: whether the models are small ones, for tests.
        dtype: of the weights on disk and of the runs.
        reference: (4, h, w), the first seed's latents after `CHECK_STEPS` steps in float32 with all levers off.
        flop: of one sample, by number of steps.
    """

    folder: Path
    tiny: bool
    dtype: torch.dtype
    reference: Tensor
    flop: dict[int, float]

    @property
    def canvas(self) -> tuple[int, int]:
        return _shape(self.tiny).canvas

    @property
    def steps(self) -> int:
        return _steps(self.tiny)[0]

    @property
    def fast_steps(self) -> int:
        """Of the variants that take fewer steps by another solver."""
        return _steps(self.tiny)[1]


def write(folder: Path, *, device: Device, dtype: torch.dtype, tiny: bool) -> Inputs:
    """Write random weights, drawn on the device, and what is computed from them."""
    models.write(folder, _shape(tiny), device=device.torch, dtype=dtype)
    method = ours.build(
        folder,
        canvas=_shape(tiny).canvas,
        steps=_steps(tiny)[0],
        device=device.torch,
        dtype=torch.float32,
        levers=Levers(),
    )
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    reference = of_ours(method, batch=1, steps=CHECK_STEPS).make(CHECK_STEPS, None).latents[0]
    torch.backends.cudnn.allow_tf32 = tf32
    flop = flop_of_a_sample(method, _steps(tiny))
    del method
    device.free()
    save_file({"latents": reference}, folder / REFERENCE)
    about = {"tiny": tiny, "dtype": str(dtype), "flop": flop}
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return read(folder, dtype=dtype, tiny=tiny)


def read(folder: Path, *, dtype: torch.dtype, tiny: bool) -> Inputs:
    """Read what `write` has written.

    Raises:
        ValueError: it was not written, or for other options.
    """
    if not (folder / ABOUT).is_file():
        raise ValueError(f"{folder} has no {ABOUT}: write the weights first: gpu.py --write-weights {folder}")
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    asked = {"tiny": tiny, "dtype": str(dtype)}
    if different := [f"{key} {about[key]}" for key in asked if about[key] != asked[key]]:
        wanted = ", ".join(f"{key} {value}" for key, value in asked.items())
        raise ValueError(f"{folder} was written with {', '.join(different)}; asked for {wanted}")
    return Inputs(
        folder=folder,
        tiny=tiny,
        dtype=dtype,
        reference=load_file(folder / REFERENCE)["latents"],
        flop={int(steps): flop for steps, flop in about["flop"].items()},
    )


def _shape(tiny: bool) -> models.Shape:
    return models.TINY if tiny else models.REAL


def _steps(tiny: bool) -> tuple[int, int]:
    return (10, 5) if tiny else (100, 25)
