"""Write and read a folder of weights with a float32 reference and FLOP counts, for all runs of a benchmark."""

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
"""Number of steps of the runs whose latents are compared; enough for both phases of the warm start."""
ABOUT, REFERENCE = "about.json", "reference.safetensors"


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Weights in the shapes of the paper's models, with reference and FLOP counts."""

    folder: Path  # written by `models.write`
    shape: models.Shape
    dtype: torch.dtype  # dtype of the weights on disk and of the runs
    reference: Tensor  # (4, h, w), latents of the first seed after `CHECK_STEPS` steps in float32 without levers
    flop: dict[int, float]  # FLOP of a sample, by number of steps


def write(folder: Path, *, device: Device, dtype: torch.dtype, tiny: bool) -> Inputs:
    """Write random weights, the reference and the FLOP count."""
    shape = models.TINY if tiny else models.REAL
    models.write(folder, shape, device=device.torch, dtype=dtype)
    method = ours.build(
        folder, canvas=shape.canvas, steps=shape.steps, device=device.torch, dtype=torch.float32, levers=Levers()
    )
    tf32, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    reference = of_ours(method, batch=1, steps=CHECK_STEPS).make(CHECK_STEPS, None).latents[0]
    torch.backends.cudnn.allow_tf32 = tf32
    flop = flop_of_a_sample(method, (shape.steps, shape.fast_steps))
    del method
    device.free()
    save_file({"latents": reference}, folder / REFERENCE)
    about = {"tiny": tiny, "dtype": str(dtype), "flop": flop}
    (folder / ABOUT).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return read(folder, dtype=dtype, tiny=tiny)


def read(folder: Path, *, dtype: torch.dtype, tiny: bool) -> Inputs:
    """Read a folder that `write` wrote.

    Raises:
        ValueError: the folder was not written by `write`, or was written with other options.
    """
    if not (folder / ABOUT).is_file():
        raise ValueError(f"{folder} has no {ABOUT}: write the weights first: gpu.py --write-weights {folder}")
    about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    expected = {"tiny": tiny, "dtype": str(dtype)}
    if different := [f"{key} {about[key]}" for key in expected if about[key] != expected[key]]:
        required = ", ".join(f"{key} {value}" for key, value in expected.items())
        raise ValueError(f"{folder} was written with {', '.join(different)}; expected {required}: write other weights")
    return Inputs(
        folder=folder,
        shape=models.TINY if tiny else models.REAL,
        dtype=dtype,
        reference=load_file(folder / REFERENCE)["latents"],
        flop={int(steps): flop for steps, flop in about["flop"].items()},
    )
