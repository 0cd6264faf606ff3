"""Compare three warm starts: samples of the embedded demo weights, their scores, and a table with intervals.

python docs/examples/table.py [NUMBER OF SEEDS]
"""

import sys
from pathlib import Path

import its
from its.cli import main

seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
run = Path("runs/example_table")

for t in (0.6, 0.8, 1.0):  # share of the steps that the audio expert takes part in
    pipe = its.Pipeline.from_config(
        "castle_bell", "models/mini", overrides={"model.combiner.t": {"visual": 1.0, "audio": t}}
    )
    for sample in pipe.generate(seeds=seeds):
        sample.save(run / "samples" / sample.id)

main(["evaluate", str(run), "--scorers", "mini", "--by", "combiner.t.audio"])
