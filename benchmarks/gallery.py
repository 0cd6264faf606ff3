"""Measure the gallery with many copies of a run's samples: `python benchmarks/gallery.py RUN`.

It measures the seconds to write the page, for the copies and for the run itself, and in headless Chromium the time from
opening the file to DOMContentLoaded and to the first cards, and from a keystroke in the search field to its results.
Figures are medians.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from its.report.gallery import write_gallery

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]

SEARCH = """() => new Promise((done) => {
  const begin = performance.now();
  new MutationObserver(() => requestAnimationFrame(() => done(performance.now() - begin)))
    .observe(document.getElementById("samples"), { childList: true });
  const field = document.getElementById("find");
  field.value = "seed-7";
  field.dispatchEvent(new Event("input", { bubbles: true }));
})"""

OPENED = """() => new Promise((done) => requestAnimationFrame(() => {
  const [page] = performance.getEntriesByType("navigation");
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  done({ ready: page.domContentLoadedEventEnd, painted: paint ? paint.startTime : null });
}))"""


def multiply(run: Path, output: Path, count: int) -> None:
    """Copy a run's samples, with new seeds, ids and scores; media are hard links if possible."""
    sources = [path.parent for path in sorted((run / "samples").glob("*/sample.json"))]
    if not sources:
        raise SystemExit(f"{run} has no samples: expected a run directory of `its predict`")
    for number in range(count):
        source = sources[number % len(sources)]
        record = json.loads((source / "sample.json").read_text())
        name = f"{number:05d}-seed-{number}-x"
        record |= {"id": name, "seed": number, "scores": {"a": number % 97 / 97, "b": number % 89 / 89}}
        folder = output / "samples" / name
        folder.mkdir(parents=True)
        for file in source.iterdir():
            if file.name != "sample.json":
                shutil.copyfile(file, folder / file.name) if os.name == "nt" else os.link(file, folder / file.name)
        (folder / "sample.json").write_text(json.dumps(record, indent=2))


def measure_writing(run: Path) -> float:
    begin = time.perf_counter()
    write_gallery([run], run)
    return time.perf_counter() - begin


def measure_opening(page: Path, program: str) -> dict[str, float]:
    """Measure milliseconds in a newly started browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=FLAGS)
        tab = browser.new_page(viewport={"width": 1440, "height": 900})
        tab.goto(page.resolve().as_uri())
        times: dict[str, float] = tab.evaluate(OPENED)
        times["searched"] = tab.evaluate(SEARCH)
        times["cards"] = tab.evaluate("document.querySelectorAll('.card').length")
        browser.close()
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        raise SystemExit("Chromium was not found: install it (Debian's package is chromium)")
    with tempfile.TemporaryDirectory(dir=options.run.resolve().parent) as folder:
        many = Path(folder)
        multiply(options.run, many, options.count)
        seconds = [measure_writing(many) for _ in range(options.repeat)]
        times = [measure_opening(many / "index.html", program) for _ in range(options.repeat)]
        size = (many / "index.html").stat().st_size
    own = statistics.median(measure_writing(options.run) for _ in range(options.repeat))
    results = {
        "samples": options.count,
        "page, MB": size / 1e6,
        "written, s": statistics.median(seconds),
        "page of the run itself written, s": own,
        "DOMContentLoaded, ms": statistics.median(t["ready"] for t in times),
        "first cards painted, ms": statistics.median(t["painted"] for t in times),
        "search answered, ms": statistics.median(t["searched"] for t in times),
    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
