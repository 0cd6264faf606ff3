"""Compare the speed of `its` on a GPU with the authors' program and an informed user's: `python benchmarks/gpu.py`.

Nothing is downloaded: the models have Stable Diffusion v1.5's shapes and random weights, drawn on the device. With
`--minutes N` only the variants that fit are measured, in order of importance. Each result is written at once. If a
variant fails, its error is recorded and the exit status is 1.

    python benchmarks/gpu.py --write-weights FOLDER                                   once
    TORCHINDUCTOR_CACHE_DIR=CACHE python benchmarks/gpu.py --weights FOLDER --warm-up-only    optional: fill the cache
    TORCHINDUCTOR_CACHE_DIR=CACHE python benchmarks/gpu.py --weights FOLDER --warm-cache --minutes 5

`--tiny` runs the same code on small models, with or without a GPU.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import environment

BEGIN = time.perf_counter()
PARTS = ("ceilings", "compare", "levers")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    if options.wheels is not None:
        environment.use_wheels(options.wheels)
    environment.use_checkout()
    import torch  # imported here, since the wheels may provide it
    from devices import find_device

    device = find_device()
    if not device.has_graphs and not options.tiny:
        print("gpu.py: no CUDA device found; use --tiny to try the script on the CPU", file=sys.stderr)
        return 2
    environment.silence()
    torch._dynamo.config.recompile_limit = 64  # variants share one UNet's code; beyond the limit they run eagerly
    with tempfile.TemporaryDirectory() as folder:
        try:
            return run(options, device, Path(folder))
        except ValueError as error:
            print(f"gpu.py: {error}", file=sys.stderr)
            return 2


def run(options: argparse.Namespace, device: Any, folder: Path) -> int:
    """Run the benchmark and return the exit status.

    Args:
        options: options of the command line.
        device: the `devices.Device` to measure.
        folder: folder for temporary weights.

    Raises:
        ValueError: an option is invalid.
    """
    import inputs
    import torch
    from budget import Budget
    from comparison import Comparison, Group
    from results_file import Results
    from table import FOLDER

    left = None if options.minutes is None else options.minutes * 60 - (time.perf_counter() - BEGIN)
    budget = Budget(left, warm=options.warm_cache)
    of_weights: dict[str, Any] = {"dtype": getattr(torch, options.dtype), "tiny": options.tiny}
    if options.weights is None:
        weights = inputs.write(options.write_weights or folder, device=device, **of_weights)
    else:
        weights = inputs.read(options.weights, **of_weights)
    if options.write_weights is not None:
        return 0
    groups = _groups(options)
    settings = {"tiny": options.tiny, "dtype": options.dtype, "compile": options.compile}
    default = None if options.tiny or options.warm_up_only else FOLDER / "gpu.json"
    results = Results(options.out or default, device=device.torch, settings=settings)
    shared = Comparison(
        inputs=weights, device=device, results=results, budget=budget, rounds=options.rounds, compile=options.compile
    )
    if "ceilings" in options.parts and not options.warm_up_only:
        shared.ceilings()
    for part, candidates in groups.items():
        print(f"{part}: {len(candidates)} variants, {max(budget.left(), 0):.0f} s left", flush=True)
        shared.keep_only(candidates)
        group = Group(shared, part, candidates, BASES[part])
        if options.warm_up_only:
            group.prepare()
        else:
            group.measure()
        results.show(part)
    for failure in shared.failures:
        print(f"gpu.py: {failure}", file=sys.stderr)
    return 1 if shared.failures else 0


def _groups(options: argparse.Namespace) -> dict[str, list[Any]]:
    """Return the selected candidates by part.

    Raises:
        ValueError: a variant is unknown.
    """
    from plan import compared, ladder

    parts = {"compare": compared(tiny=options.tiny), "levers": ladder()}
    known = [candidate.name for candidates in parts.values() for candidate in candidates]
    if unknown := [name for name in options.variants or () if name not in known]:
        raise ValueError(f"unknown variant {unknown[0]!r}; expected some of: {'; '.join(known)}")
    names = options.variants or known
    return {
        part: [each for each in candidates if each.name in names and (each.compiles or not options.warm_up_only)]
        for part, candidates in parts.items()
        if part in options.parts
    }


BASES: dict[str, dict[str | None, str]] = {
    "compare": {"authors": "over the authors'", "informed user": "over the informed user's"},
    "levers": {"eager": "over eager", None: "over the line before"},
}
"""Names of the ratios by part and by the variant to divide by (None: the variant before)."""


def _options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "parts", nargs="*", default=list(PARTS), metavar="PART", help=f"{', '.join(PARTS)}; all by default"
    )
    parser.add_argument("--minutes", type=float, help="time limit; variants that don't fit are left out")
    parser.add_argument("--rounds", type=int, default=5, help="largest number of rounds, which run all variants")
    parser.add_argument("--variants", nargs="+", metavar="NAME", help="measure only these variants")
    parser.add_argument("--weights", type=Path, metavar="FOLDER", help="use weights written by --write-weights")
    parser.add_argument("--write-weights", type=Path, metavar="FOLDER", help="write the weights and exit")
    parser.add_argument("--warm-up-only", action="store_true", help="only compile, to fill the compile cache")
    parser.add_argument("--warm-cache", action="store_true", help="estimate times for a filled compile cache")
    parser.add_argument("--dtype", choices=["float32", "float16", "bfloat16"], default="float16")
    parser.add_argument("--tiny", action="store_true", help="use small models, whose figures mean nothing")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave out variants that compile")
    parser.add_argument("--wheels", type=Path, help="folder with wheels of missing packages")
    parser.add_argument("--out", type=Path, help="JSON file; the committed one by default, none with --tiny")
    options = parser.parse_args(arguments)
    if unknown := [part for part in options.parts if part not in PARTS]:
        parser.error(f"unknown part {unknown[0]}; expected some of: {', '.join(PARTS)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
