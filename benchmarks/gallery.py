"""What the gallery costs: `python benchmarks/gallery.py RUN`, a run of `its predict`, whose samples are multiplied.

Seconds to write the page of so many samples, what this adds to the making of one sample, and in Chromium
(headless) the time from opening the file to DOMContentLoaded, to the first cards on the screen, and from a keystroke in
the search field to the cards that it leaves. Medians of the runs.
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
    """Copies of a run's samples with seeds, ids and scores of their own; media as hard links where that goes."""
    sources = [path.parent for path in sorted((run / "samples").glob("*/sample.json"))]
    if not sources:
        raise SystemExit(f"{run} has no samples")
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


def written(run: Path) -> float:
    begin = time.perf_counter()
    write_gallery([run], run)
    return time.perf_counter() - begin


def opened(page: Path, program: str) -> dict[str, float]:
    """Milliseconds, in a browser that was just started."""
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
        raise SystemExit("no Chromium here: Debian's package chromium has it")
    with tempfile.TemporaryDirectory(dir=options.run.resolve().parent) as folder:
        many = Path(folder)
        multiply(options.run, many, options.count)
        seconds = [written(many) for _ in range(options.repeat)]
        times = [opened(many / "index.html", program) for _ in range(options.repeat)]
        size = (many / "index.html").stat().st_size
    own = statistics.median(written(options.run) for _ in range(options.repeat))
    results = {
        "samples": options.count,
        "page, MB": size / 1e6,
        "written, s": statistics.median(seconds),
        "page of the run itself written, s": own,
        **{
            f"{name}, ms": statistics.median(t[key] for t in times)
            for name, key in (
                ("DOMContentLoaded", "ready"),
                ("first cards painted", "painted"),
                ("search answered", "searched"),
            )
        },
    }
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
