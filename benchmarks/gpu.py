"""How fast this is on a GPU, against the authors' program and an informed user's: `python benchmarks/gpu.py`.

Nothing is downloaded: the networks have Stable Diffusion v1.5's shapes and random weights, drawn on the device.
Parts, each selectable by name: `python benchmarks/gpu.py ceilings levers`. All of them take about half an hour on one
H200. `--tiny` runs the same code on small networks, also without a GPU, to see whether it runs.

Where a package is missing and nothing can be installed, bring its wheel: `--wheels FOLDER`, or unpacked on PYTHONPATH.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

import bring


def main() -> int:
    options = _options()
    if options.wheels is not None:
        bring.wheels(options.wheels)
    bring.project()
    import torch  # only now: these may have come along as wheels
    from bench import Bench
    from gpu_parts import PARTS
    from results_file import Results
    from table import FOLDER

    if not torch.cuda.is_available() and not options.tiny:
        print("gpu.py: there is no CUDA device; `--tiny` tries the script out on the CPU", file=sys.stderr)
        return 2
    if unknown := [name for name in options.parts if name not in PARTS]:
        print(f"gpu.py: there is no part {unknown[0]}; there are: {', '.join(PARTS)}", file=sys.stderr)
        return 2
    bring.quiet()
    torch._dynamo.config.recompile_limit = 64  # all variants share the code of one UNet; beyond it they'd run eagerly
    out = options.out or (None if options.tiny else FOLDER / "gpu.json")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    settings = {"tiny": options.tiny, "dtype": options.dtype, "rounds": options.rounds, "compile": options.compile}
    results = Results(out, device=device, settings=settings)
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            folder=Path(folder),
            device=device,
            dtype=getattr(torch, options.dtype),
            tiny=options.tiny,
            rounds=options.rounds,
            compile=options.compile,
            batches=options.batches or ([1, 2] if options.tiny else [1, 4, 8, 16, 32]),
            failures=failures,
        )
        bench.write_weights()
        for name in options.parts or PARTS:
            print(f"{name}: {' '.join((PARTS[name].__doc__ or '').split())}", flush=True)
            begin = time.perf_counter()
            results.add(name, PARTS[name](bench), seconds=time.perf_counter() - begin)
    for failure in failures:
        print(f"gpu.py: WRONG: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="which; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="that count, of all variants in turn")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float16")
    parser.add_argument("--batches", type=int, nargs="+", metavar="B", help="batch sizes of ours")
    parser.add_argument("--tiny", action="store_true", help="small networks, few steps, figures that mean nothing")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave out what compiles")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels of packages that this machine lacks")
    parser.add_argument("--out", type=Path, help="JSON file; by default the committed one, for --tiny none")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
