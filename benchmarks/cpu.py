"""Measure loop, Lightning, batches, processes and start-up on a CPU: `python benchmarks/cpu.py`.

Nothing is downloaded: networks have random weights. Parts are selectable by name: `python benchmarks/cpu.py loop unet`.
All parts take about ten minutes on two cores. Ratios compare figures of the same round, but an otherwise idle machine
gives more accurate ones.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import environment


def main() -> int:
    options = _options()
    environment.use_checkout()
    import torch
    from cpu_commands import start_up, writing
    from cpu_loop import batch, lightning, loop
    from cpu_processes import processes
    from cpu_unet import unet
    from results_file import Results
    from table import FOLDER

    parts = {part.__name__: part for part in (loop, lightning, batch, processes, unet, start_up, writing)}
    if unknown := [name for name in options.parts if name not in parts]:
        print(f"cpu.py: unknown part {unknown[0]}; expected some of: {', '.join(parts)}", file=sys.stderr)
        return 2
    environment.silence()
    out = None if options.dry else options.out or FOLDER / "cpu.json"
    results = Results(out, device=torch.device("cpu"), settings={"rounds": options.rounds})
    for name in options.parts or parts:
        print(f"{name}: {' '.join((parts[name].__doc__ or '').split())}", flush=True)
        begin = time.perf_counter()
        results.add(name, parts[name](options.rounds), seconds=time.perf_counter() - begin)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="parts to measure; all by default")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, each of which runs all variants in turn")
    parser.add_argument("--out", type=Path, help="JSON file; the committed one by default")
    parser.add_argument("--dry", action="store_true", help="print the figures, write no file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
