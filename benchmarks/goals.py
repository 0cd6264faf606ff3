"""Performance goals, and the keys of the measured figures."""

from __future__ import annotations

from typing import NamedTuple


class Goal(NamedTuple):
    """Row of the table of goals."""

    what: str
    goal: str
    stretch: str
    where: str  # script and part
    figures: tuple[str, ...]  # keys in the results; BEST is the batch size of `its` with the most samples per second


COMPARE = "gpu compare"
AUTHORS = "over the authors'"
FLOOR = "share of the floor"
# fmt: off
GOALS = [
    Goal("plain `its predict`, batches of 1 / of 16, over the authors' program", "3x", "5x", COMPARE,
         (f"ours, plain, batch 1 | {AUTHORS}", f"ours, plain, batch 16 | {AUTHORS}")),
    Goal("share of the floor, batch 1, `fast.yaml`", "36 %", "42 %", COMPARE, (f"ours, batch 1 | {FLOOR}",)),
    Goal("share of the floor, best batch, `fast.yaml`", "50 %", "58 %", COMPARE, (f"BEST | {FLOOR}",)),
    Goal("eager, batch 1, over the authors' program", "1.1x", "", COMPARE, (f"ours, eager, batch 1 | {AUTHORS}",)),
    Goal("batch 1, `fast.yaml`, over the informed user's", "1.3x", "1.6x", COMPARE,
         ("ours, batch 1 | over the informed user's",)),
    Goal("25 steps, batch 16, over the authors' 100", "30x", "40x", COMPARE,
         (f"ours, 25 steps, batch 16 | {AUTHORS}",)),
    Goal("peak memory at batch 16, `fast.yaml`", "16 GiB", "12 GiB", COMPARE, ("ours, batch 16 | memory",)),
    Goal("process start to first finished sample", "20 s", "12 s", "plain_command plain", ("start to first sample",)),
    Goal("first batch of another size, compiled code in the cache on disk", "20 s", "", COMPARE,
         ("ours, batch 16 | first batch", "ours, batch 8 | first batch")),
    Goal("host waits in the loop", "0", "0", COMPARE, ("ours, batch 1 | host waits in the loop",)),
    Goal("recompilations after warm-up", "0", "0", COMPARE, ("recompilations after warm-up",)),
    Goal("writing PNG and WAV adds", "2 %", "", "cpu writing", ("writing adds",)),
    Goal("our loop over the UNet forwards in it, tiny UNets", "1 %", "0.3 %", "cpu loop",
         ("loop over its UNet forwards, counted within one run",)),
    Goal("Lightning around it, a batch", "0.5 ms", "", "cpu lightning", ("Lightning, a batch",)),
    Goal("UNet of real size in bf16, share of the measured GEMM rate", "60 %", "75 %", "cpu unet",
         ("bf16, contiguous | share of the GEMM rate", "bf16, channels_last | share of the GEMM rate")),
    Goal("two processes on two cores, share of the ideal", "0.95", "", "cpu processes",
         ("two processes on two cores, share of the ideal",)),
    Goal("`its --help`", "0.1 s", "", "cpu start_up", ("its --help",)),
    Goal("`its predict`, tiny, start to first file, less the imports", "1.5 s", "0.7 s", "cpu start_up",
         ("its predict, tiny, from start to first file, less the imports",)),
]
# fmt: on
