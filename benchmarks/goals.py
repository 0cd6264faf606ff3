"""What the figures ought to be, and where each is found in the results."""

from __future__ import annotations

from typing import NamedTuple


class Goal(NamedTuple):
    """A line of the table of goals.

    Attributes:
        what: is measured.
        goal, stretch: as people read them.
        where: script and part.
        figures: keys in the part's results; BEST is ours at the batch that makes most samples a second.
    """

    what: str
    goal: str
    stretch: str
    where: str
    figures: tuple[str, ...]


GOALS = [
    Goal("batch 1, over the authors' program", "2.0x", "2.8x", "gpu compare", ("ours, batch 1 | over the authors'",)),
    Goal(
        "batch 1, over the informed user's",
        "1.15x",
        "1.3x",
        "gpu compare",
        ("ours, batch 1 | over the informed user's",),
    ),
    Goal("best batch, over the authors' program", "4x", "5x", "gpu compare", ("BEST | over the authors'",)),
    Goal("share of the floor, best batch", "45 %", "55 %", "gpu compare", ("BEST | share of the floor",)),
    Goal("share of the floor, batch 1", "22 %", "30 %", "gpu compare", ("ours, batch 1 | share of the floor",)),
    Goal(
        "25 steps, batch 16, over the authors' 100",
        "12x",
        "16x",
        "gpu compare",
        ("ours, 25 steps, batch 16 | over the authors'",),
    ),
    Goal("peak memory at batch 16", "24 GiB", "16 GiB", "gpu compare", ("ours, batch 16 | memory",)),
    Goal("host waits in the loop", "0", "", "gpu compare", ("ours, batch 1 | host waits in the loop",)),
    Goal("recompilations after warm-up", "0", "", "gpu compare", ("recompilations after warm-up",)),
    Goal("writing PNG and WAV adds", "5 %", "2 %", "gpu files", ("writing adds",)),
    Goal("writing PNG and WAV adds", "5 %", "2 %", "cpu writing", ("writing adds",)),
    Goal(
        "our loop over the UNet forwards in it, tiny UNets",
        "1 %",
        "0.3 %",
        "cpu loop",
        ("loop over its UNet forwards, counted within one run",),
    ),
    Goal("Lightning around it, a batch", "0.5 ms", "", "cpu lightning", ("Lightning, a batch",)),
    Goal(
        "Lightning around it, start-up",
        "20 ms",
        "",
        "cpu lightning",
        ("Lightning, start-up: from making a Trainer to the first batch",),
    ),
    Goal(
        "tiny UNets, samples/s, batch 16 over batch 1, canvas 64 x 128",
        "1.6x",
        "",
        "cpu batch",
        ("batch 16 over batch 1, canvas 64 x 128",),
    ),
    Goal("the same, canvas 64 x 512", "", "", "cpu batch", ("batch 16 over batch 1, canvas 64 x 512",)),
    Goal(
        "UNet of real size in bf16, share of the measured GEMM rate",
        "60 %",
        "75 %",
        "cpu unet",
        ("bf16, contiguous | share of the GEMM rate", "bf16, channels_last | share of the GEMM rate"),
    ),
    Goal(
        "two processes on two cores, share of the ideal",
        "0.90",
        "0.95",
        "cpu processes",
        ("two processes on two cores, share of the ideal",),
    ),
    Goal("`its --help`", "0.2 s", "0.12 s", "cpu start_up", ("its --help",)),
    Goal(
        "`its predict`, tiny, start to first file, less the imports",
        "1.5 s",
        "0.7 s",
        "cpu start_up",
        ("its predict, tiny, from start to first file, less the imports",),
    ),
]
