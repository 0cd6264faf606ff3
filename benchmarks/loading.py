"""Measure time and memory of loading weights of real size, by file format: `python benchmarks/loading.py`.

Nothing is downloaded: weights are random, in the shapes of Stable Diffusion v1.5, and in the layouts of its repository
(safetensors), of Auffusion's (pickled tensors), of a checkpoint file and of a LoRA. Requires 16 GB of disk temporarily.
Each form is loaded as by `its predict`, in a separate process, with its files in the page cache.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Literal

import environment

FORMS = ("safetensors", "safetensors fp16", "pickled tensors", "checkpoint file", "safetensors and a LoRA")
RANK = 16


def main() -> int:
    options = _options()
    environment.use_checkout()
    if options.form is not None:
        print(json.dumps(load(options.form, options.folder, options.dtype)))
        return 0
    import torch
    from measuring import figure
    from results_file import Results
    from table import FOLDER

    environment.silence()
    out = None if options.dry else options.out or FOLDER / "loading.json"
    results = Results(out, device=torch.device("cpu"), settings={"rounds": options.rounds, "dtype": options.dtype})
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        write(Path(name))
        for form in FORMS:
            begin = time.perf_counter()
            runs = [_load_in_process(form, Path(name), options.dtype) for _ in range(options.rounds + 1)][1:]
            units = {"on disk": "GB", "find and check": "s", "sha256": "s", "load": "s", "peak memory": "GiB"}
            figures = {f"{form} | {key}": figure([run[key] for run in runs], unit) for key, unit in units.items()}
            results.add(form, figures, seconds=time.perf_counter() - begin)
    return 0


def write(folder: Path) -> None:
    """Write each form to a folder or file of the same name."""
    import models
    import torch
    from safetensors.torch import load_file, save_file

    from its_plugins.experts.original_layout import original_layout

    cpu = torch.device("cpu")
    print("writing random weights of real size", flush=True)
    models.write(folder, models.REAL, device=cpu, dtype=torch.float32)
    (folder / "sd").rename(folder / "safetensors")
    plain, half, pickled = folder / "safetensors", folder / "safetensors fp16", folder / "pickled tensors"
    checkpoint: dict[str, torch.Tensor] = {}
    components: tuple[Literal["unet", "text_encoder", "vae"], ...] = ("unet", "text_encoder", "vae")
    for component in components:
        (file,) = (plain / component).glob("*.safetensors")
        tensors, config = load_file(file), (plain / component / "config.json").read_bytes()
        for other in (half, pickled):
            (other / component).mkdir(parents=True)
            (other / component / "config.json").write_bytes(config)
        save_file({n: t.half() for n, t in tensors.items()}, half / component / f"{file.stem}.fp16.safetensors")
        stem = "pytorch_model" if component == "text_encoder" else file.stem
        torch.save(tensors, pickled / component / f"{stem}.bin")
        checkpoint |= original_layout(tensors, component, json.loads(config))
    for other in (half, pickled):
        models.random_weights.write_tokenizer(other / "tokenizer")
    save_file(checkpoint, folder / "checkpoint file.safetensors")
    lora = {}
    unet = load_file(plain / "unet" / "diffusion_pytorch_model.safetensors")
    for name, tensor in unet.items():
        if ".attn" in name and name.endswith(("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight")):
            layer = f"unet.{name.removesuffix('.weight')}"
            lora[f"{layer}.lora_A.weight"] = torch.randn(RANK, tensor.shape[1])
            lora[f"{layer}.lora_B.weight"] = torch.randn(tensor.shape[0], RANK)
    save_file(lora, folder / "lora.safetensors")


def load(form: str, folder: Path, dtype: str) -> dict[str, float]:
    """Find, hash and load an expert, and measure each stage."""
    import torch

    from its_plugins.experts.stable_diffusion import StableDiffusion

    weights = folder / form.removesuffix(" and a LoRA")
    arguments: dict[str, Any] = {"weights": f"{weights}.safetensors" if form == "checkpoint file" else str(weights)}
    if form.endswith("LoRA"):
        arguments["lora"] = [{"weights": str(folder / "lora.safetensors")}]
    expert = StableDiffusion(**arguments)
    torch.set_default_dtype(getattr(torch, dtype))
    times = [time.perf_counter()]
    for stage in (expert.prepare, expert.provenance, expert.load):
        stage()
        times.append(time.perf_counter())
    seconds = [b - a for a, b in itertools.pairwise(times)]
    size = sum(expert.source.sizes[name] for name in expert.files) / 1e9
    # The peak of getrusage would include that of the parent process.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**20  # type: ignore[index]
    stages = dict(zip(("find and check", "sha256", "load"), seconds, strict=True))
    return stages | {"on disk": size, "peak memory": peak}


def _load_in_process(form: str, folder: Path, dtype: str) -> dict[str, float]:
    command = [sys.executable, __file__, "--form", form, "--folder", str(folder), "--dtype", dtype]
    with tempfile.TemporaryDirectory() as cache:  # an empty cache of digests
        variables = os.environ | {"XDG_CACHE_HOME": cache}
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=variables)
    return json.loads(done.stdout.splitlines()[-1])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="loads of each form, after a warm-up")
    parser.add_argument("--dtype", default="float32", help="dtype of the run, such as float16")
    parser.add_argument("--folder", type=Path, help="folder for temporary weights")
    parser.add_argument("--out", type=Path, help="JSON file; the committed one by default")
    parser.add_argument("--dry", action="store_true", help="print the figures, write no file")
    parser.add_argument("--form", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
