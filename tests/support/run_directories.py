"""Run directories, written by the real sample writer, and a browser to test their pages."""

import shutil
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import pytest
import torch

from its.audio.spectrogram import AUFFUSION
from its.methods.sample import Result, Sample
from its.runs.records import read_record
from its.runs.sample_files import write_sample
from its.specs.spec import SampleSpec, sample_id

SETTINGS = {
    "guidance_scale": {"visual": 10.0, "audio": 10.0},
    "method": "multimodal denoising",
    "vocoder": {"class": "HiFiGAN"},
    "steps": 100,
}
WEIGHTS = {"experts.visual": {"name": "some/model", "revision": "0123456789abcdef"}}
CHROMIUM = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def add_sample(run: Path, *, seed=1, prompts=None, seconds=3.0, error=None, color=False, tone=440.0, **record):
    """Write a sample of 64 x 128 pixels and `seconds` of sound; return its folder."""
    row = SampleSpec(
        prompts=prompts or {"visual": "a castle", "audio": "a bell"},
        negative_prompts={"visual": "", "audio": ""},
        guidance_scale={"visual": 10.0, "audio": 10.0},
        seed=seed,
        source="test",
    )
    gray = torch.linspace(0, 1, 64 * 128).reshape(64, 128)
    result = Result(
        latents=None,
        spectrogram=gray,
        picture=gray.expand(3, -1, -1),
        waveform=0.3 * (torch.arange(int(seconds * 16_000)) * tone * 2 * torch.pi / 16_000).sin(),
        sample_rate=16_000,
        color=torch.stack([gray * 0.5, gray, gray * 0.8]) if color else None,
    )
    sample = Sample(spec=row, result=result) if error is None else Sample(spec=row, error=error)
    whole = {
        "id": sample_id(row, {"record": {**SETTINGS, **record.get("settings", {})}}),
        "prompts": dict(row.prompts),
        "negative_prompts": dict(row.negative_prompts),
        "seed": seed,
        "format": asdict(replace(AUFFUSION, n_mels=64)),
        "weights": WEIGHTS,
        "fallback": None,
        "scores": {},
        "timings": {"denoise": 8.0, "batch_size": 2},
        "versions": {"its": "0"},
        **record,
        "settings": {**SETTINGS, **record.get("settings", {})},
    }
    folder = run / "samples" / whole["id"]
    write_sample(folder, sample, whole, ["color"] if color else [])
    assert read_record(folder) is not None
    return folder


@pytest.fixture
def add(tmp_path):
    """`add(run="run", **sample)` writes a sample to a run directory and returns the sample's folder."""
    return lambda run="run", **sample: add_sample(tmp_path / run, **sample)


@pytest.fixture(scope="session")
def chromium():
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium here: Debian's package chromium has it")
    driver = pytest.importorskip("playwright.sync_api", reason="no playwright here: pip install --editable '.[dev]'")
    with driver.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=program, args=CHROMIUM)
        yield browser
        browser.close()


def until(page, condition):
    """Wait until a condition holds. Playwright's `wait_for_function` evaluates a string, which our pages forbid."""
    for _ in range(1000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"in vain: {condition}")


@pytest.fixture
def browse(chromium):
    """`browse(path, **context)` opens a page from disk. The test fails if the page logs errors or uses the network."""
    wrong, contexts = [], []

    def browse(path, **context):
        contexts.append(chromium.new_context(**{"viewport": {"width": 1440, "height": 900}, **context}))
        page = contexts[-1].new_page()
        page.set_default_timeout(20_000)
        page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else wrong.append(r.url))
        page.until = partial(until, page)
        page.goto(path.resolve().as_uri())
        return page

    yield browse
    for context in contexts:
        context.close()
    assert wrong == []
