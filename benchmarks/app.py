"""Measure the page of `its app` on the embedded pack: `python benchmarks/app.py`.

In headless Chromium: the seconds from the command to the printed address, to a page that answers, and to loaded
weights; and from "Make" to the first preview and to the finished sample. In this process: the time of sampling with
previews, as in the page, over that without, alternately. Figures are medians. The result names the load of the machine,
because other programs on the same cores slow all of it down.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
RESULTS = Path(__file__).parent / "results" / "app.json"

READY = """() => document.querySelector("#new-seed") && typeof player !== "undefined" """
ANSWERED = """() => document.querySelector("#seed input").value !== "1234" """


@contextmanager
def served(output: Path) -> Iterator[tuple[str, float, float]]:
    """Start `its app`; yield its address, the time of the start, and the seconds to the address."""
    begin = time.perf_counter()
    command = [sys.executable, "-m", "its", "app", "--port", "0", "--output", str(output)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            address = re.search(r"http://\S+", process.stdout.readline())
            assert address is not None
            yield address[0], begin, time.perf_counter() - begin
        finally:
            process.terminate()
            process.wait(60)


def measure_page(browser: Any) -> dict[str, float]:
    """Measure a fresh server in a fresh page."""
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as (address, begin, printed):
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.set_default_timeout(180_000)
        page.goto(address)
        page.wait_for_function(READY)
        page.locator("#new-seed").click()
        page.wait_for_function(ANSWERED)
        usable = time.perf_counter() - begin
        page.get_by_text("Embedded demo weights").wait_for()
        loaded = time.perf_counter() - begin
        page.wait_for_timeout(1000)
        times = []
        for seed in ("1", "2"):  # the first sample warms up
            page.locator("#seed input").fill(seed)
            made = page.locator("#results .its-card").count() + 1
            pressed = time.perf_counter()
            page.locator("#make").click()
            page.locator(".its-preview").first.wait_for()
            preview = time.perf_counter() - pressed
            page.wait_for_function(f"document.querySelectorAll('#results .its-card').length === {made}")
            times.append((preview, time.perf_counter() - pressed))
            page.wait_for_function("document.querySelector('.its-preview') === null")
        page.close()
    (first, _), (second, whole) = times
    return {
        "address printed, s": printed,
        "page answers, s": usable,
        "weights loaded, s": loaded,
        "first preview of the first sample, s": first,
        "first preview of the second sample, s": second,
        "second sample shown, s": whole,
    }


def measure_previews(repeat: int) -> dict[str, float]:
    """Measure sampling with and without previews, alternately."""
    from its.app.previews import Previewer
    from its.pipeline import Pipeline

    pipeline = Pipeline.from_config("castle_bell", "models/mini", accelerator="cpu")
    pipeline(seed=0, progress=False)
    ratios, counts, shares = [], [], []
    for seed in range(1, repeat + 1):
        plain = pipeline(seed=seed, progress=False).record["timings"]["denoise"]
        previewer = Previewer(pipeline.method.decoder.picture, shown=31 / 32)
        watched = pipeline(seed=seed, progress=False, on_step=previewer).record["timings"]["denoise"]
        ratios.append(watched / plain - 1)
        counts.append(previewer.count)
        shares.append((previewer.first + previewer.spent) / watched)
    return {
        "sampling time added by previews": statistics.median(ratios),
        "share of sampling spent in previews": statistics.median(shares),
        "previews of a sample": statistics.median(counts),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--beside", default="nothing that was noticed", help="what else ran, for the record")
    options = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("Chromium was not found: install it (Debian's package is chromium)")
    from playwright.sync_api import sync_playwright

    before = os.getloadavg()[0]
    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=FLAGS)
        pages = [measure_page(browser) for _ in range(options.repeat)]
        browser.close()
    figures = {key: statistics.median(page[key] for page in pages) for key in pages[0]}
    figures |= measure_previews(options.repeat)
    results = {
        "figures": {key: round(value, 3) for key, value in figures.items()},
        "all": [{key: round(value, 2) for key, value in page.items()} for page in pages],
        "load before and after": [round(before, 2), round(os.getloadavg()[0], 2)],
        "beside": options.beside,
        "cores": os.cpu_count(),
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
