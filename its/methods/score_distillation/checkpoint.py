"""Checkpoints of an optimisation, resumed bit-exactly on the same device."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from its.media.atomic import make_folder
from its.media.contained import contained, is_own_file
from its.media.encode import write_tensors
from its.methods.score_distillation.optimisation import Optimisation


def save_checkpoint(path: Path, state: Optimisation) -> None:
    """Write image parameters, optimizer, generator and iteration to a safetensors file, atomically."""
    tensors: dict[str, Tensor] = {f"image.{name}": x for name, x in state.image.state_dict().items()}
    for number, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{number}.{name}": x for name, x in moments.items()}
    tensors["generator"] = state.generator.get_state()
    contained(path.parents[2], path)
    make_folder(path.parent)
    write_tensors(path, tensors, {"done": str(state.done)})


def load_checkpoint(path: Path, state: Optimisation) -> bool:
    """Load a checkpoint into a new optimisation with equal settings.

    Returns:
        Whether the checkpoint exists.

    Raises:
        ValueError: the file is damaged or has other settings. `state` is then invalid.
    """
    from safetensors import SafetensorError, safe_open

    if not is_own_file(path):
        return False
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            state.done = int(file.metadata()["done"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not iterable
        moments: dict[int, dict[str, Tensor]] = {}
        for name in [name for name in tensors if name.startswith("optimizer.")]:
            _, number, key = name.split(".")
            moments.setdefault(int(number), {})[key] = tensors.pop(name)
        state.generator.set_state(tensors.pop("generator"))
        state.image.load_state_dict({name.removeprefix("image."): x for name, x in tensors.items()})
        state.optimizer.load_state_dict(state.optimizer.state_dict() | {"state": moments})
    except (SafetensorError, OSError, TypeError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} can't be read ({str(error).partition(chr(10))[0]})") from error
    return True
