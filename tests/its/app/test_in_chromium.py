"""The page in Chromium, on the embedded pack."""

import json
import re
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser

NASTY = "<img src=x onerror=window.hit=1> {{value}} ${window.hit=1} castle"

WATCH = """async (frames) => {
  const seen = [];
  for (let frame = 0; frame < frames; frame++) {
    await new Promise(requestAnimationFrame);
    const picture = document.querySelector(".its-card.playing .picture");
    if (!picture) continue;
    const [box, line] = [picture, picture.querySelector(".playhead")].map((e) => e.getBoundingClientRect());
    seen.push([(line.left - box.left) / box.width * player.surface.seconds, player.audio.currentTime]);
  }
  return seen;
}"""
"""Position of the line on the screen and time of the audio clock, both in seconds."""


@pytest.fixture(scope="module")
def sample(server):
    """A made sample: its run's name and its folder."""
    studio = server.studio
    job = server.wait(studio.make(studio.defaults(), [1]))
    assert job.status == "done", job.error
    return job.folders[0].parents[1].name, job.folders[0]


def line_and_clock(page):
    page.until("player.audio.currentTime > 0.05")
    seen = page.evaluate(WATCH, 30)
    assert len(seen) > 20
    assert seen[-1][1] - seen[0][1] > 0.2
    return max(abs(line - clock) for line, clock in seen)


def test_type_make_look_listen_and_download(server, visit, cards):
    page = visit(server)
    page.get_by_text("cute dogs · dog barking").click()
    page.until("document.querySelector('#audio textarea').value === 'dog barking'")
    page.locator("#visual textarea").fill("a painting of tigers, grayscale")
    page.locator("#seed input").fill("77")
    page.locator("#make").click()
    page.locator(".its-preview").first.wait_for()
    assert page.locator(".its-preview").first.evaluate("e => e.complete && e.naturalWidth > 50")
    card = cards(page).first
    card.wait_for()
    assert card.locator("dd").all_inner_texts() == ["a painting of tigers, grayscale", "dog barking"]
    facts = card.locator(".its-facts").inner_text()
    assert "seed 77" in facts
    assert "demo weights" in facts
    card.locator(".play").click()
    assert line_and_clock(page) < 0.05
    (record,) = server.output.glob("*/samples/*-77-*/sample.json")
    for label, start in (("PNG", b"\x89PNG"), ("WAV", b"RIFF"), ("MP4", b"\0\0\0")):  # the video is made now
        with page.expect_download() as download:
            card.get_by_text(label, exact=True).click()
        assert download.value.suggested_filename.startswith(record.parent.name)
        assert download.value.path().read_bytes().startswith(start)
    assert json.loads(record.read_text())["config"]["model"]["steps"] == 4
    assert {"spectrogram.png", "audio.wav"} <= {path.name for path in record.parent.iterdir()}
    assert (record.parents[2] / "index.html").exists()
    assert (record.parents[2] / "its_config.yaml").exists()


def test_a_closed_page_does_not_end_the_job_and_cancel_does(server, visit, cards):
    page = visit(server)
    before = len(list(server.output.glob("*/samples/*")))
    page.get_by_text("Settings", exact=True).click()
    page.locator("#steps input[type=number]").fill("8")
    page.locator("#seed input").fill("500")
    page.locator("#eight").click()
    page.locator(".its-preview").first.wait_for()
    job = server.studio.jobs.current
    page.close()
    while len(job.folders) < 1:
        assert job.status == "running", job.error
        time.sleep(0.02)
    page = visit(server)
    page.locator("#cancel").click()
    page.get_by_text("cancelled").wait_for()
    assert job.status == "cancelled"
    folders = list(server.output.glob("*/samples/*"))
    assert before < len(folders) < before + 8
    assert all((folder / "sample.json").exists() for folder in folders)


def test_prompts_are_text_everywhere(server, visit, cards):
    page = visit(server)
    page.locator("#visual textarea").fill(NASTY)
    page.locator("#audio textarea").fill("bell </textarea><b>ringing</b>")
    page.locator("#make").click()
    page.locator(".its-progress").get_by_text(NASTY).wait_for()
    page.until(f"document.querySelector('#results dd')?.textContent === {json.dumps(NASTY)}")
    page.locator("#visual textarea").fill("")
    page.locator("#make").click()
    page.get_by_text("the prompt of the picture is empty").wait_for()
    page.get_by_role("tab", name="Runs").click()
    page.locator("#run-cards").get_by_text(NASTY).first.wait_for()
    with page.context.expect_page() as opened:
        page.locator("#gallery-link a").click()
    gallery = opened.value
    gallery.get_by_text(NASTY).first.wait_for()
    assert gallery.evaluate("window.hit") is None
    assert gallery.locator("b").all_inner_texts().count("ringing") == 0
    assert page.evaluate("window.hit") is None


@pytest.mark.slow
def test_a_dropped_file_restores_its_settings(server, sample, visit):
    _, folder = sample
    page = visit(server)
    page.get_by_text("Settings", exact=True).click()
    page.until("document.querySelector('#steps input[type=number]')?.value === '4'")
    page.get_by_text("Restore from a file").click()
    page.locator("#visual textarea").fill("something else")
    for name in ("spectrogram.png", "audio.wav", "sample.json"):
        page.locator("#seed input").fill("9")
        page.locator("#drop input[type=file]").set_input_files(folder / name)
        page.until("document.querySelector('#seed input').value === '1'")
        assert page.locator("#visual textarea").input_value() == "a painting of castle towers, grayscale"
    page.locator("#drop input[type=file]").set_input_files(
        {"name": "a<b>.png", "mimeType": "image/png", "buffer": b"not a picture"}
    )
    page.get_by_text("can't be read as PNG").wait_for()


@pytest.mark.slow
def test_more_like_this_favourites_colour_and_the_best(server, sample, visit, cards):
    run, folder = sample
    page = visit(server)
    own = page.locator(f"#results [data-id='{folder.name}']")
    own.locator("[data-act=favourite]").click()
    own.locator("[data-act=like]").click()
    alike = "#results [data-id^='a-painting-of-castle-towers-grayscale-bell-ringi-1-']"
    page.until(f"document.querySelectorAll({json.dumps(alike)}).length === 5")
    page.until("document.querySelector('.its-track') === null")
    balances = page.locator(f"{alike} .its-facts").all_inner_texts()
    assert sorted(int(re.search(r"(\d+) % sound", text)[1]) for text in balances) == [40, 50, 60, 70, 80]
    assert json.loads((folder / "sample.json").read_text())["favourite"] is True
    own.locator("[data-act=color]").click()
    own.locator("img.color").wait_for()
    page.get_by_role("tab", name="Runs").click()
    page.locator("#run-cards .its-card").first.wait_for()
    page.get_by_label("Favourites").check()
    page.until("document.querySelectorAll('#run-cards .its-card').length === 1")
    page.locator("#rank").click()
    page.get_by_label("Best", exact=True).check()
    page.until("document.querySelectorAll('#run-cards .its-card').length >= 2")
    assert (server.output / run / "ranking.csv").exists()
    assert all("rank" in text for text in page.locator("#run-cards .its-facts").all_inner_texts())


@pytest.mark.slow
def test_a_picture_is_played_as_its_controls_move(server, sample, visit):
    _, folder = sample
    page = visit(server)
    page.get_by_role("tab", name="Play a picture").click()
    page.locator("#own input[type=file]").set_input_files(folder / "spectrogram.png")
    page.locator("#played .its-card").wait_for()
    seconds = page.locator("#duration input[type=number]")
    seconds.fill("3")
    seconds.press("Tab")
    page.until("document.querySelector('#played .clock').textContent === '0.0 / 3.0 s'")
    page.locator("#played .play").click()
    assert line_and_clock(page) < 0.05
    low = page.locator("#low input[type=number]")
    low.fill("7900")
    page.locator("#high input[type=number]").fill("100")
    page.locator("#high input[type=number]").press("Tab")
    page.locator("#played").get_by_text("expected 0 <= f_min < f_max").wait_for()


@pytest.mark.slow
def test_a_played_picture_is_the_start_of_samples(server, sample, visit, cards):
    _, folder = sample
    page = visit(server)
    page.get_by_role("tab", name="Play a picture").click()
    page.locator("#own input[type=file]").set_input_files(folder / "spectrogram.png")
    page.locator("#played .its-card").wait_for()
    page.locator("#start-from-it").click()
    page.locator("#seed input").fill("4321")
    page.locator("#make").click()
    card = cards(page).first
    card.get_by_text("seed 4321").wait_for()
    (record,) = server.output.glob("*/samples/*-4321-*/sample.json")
    start = json.loads(record.read_text())["config"]["data"]["prompts"][0]["start"]
    copy = record.parents[2] / "inputs" / Path(start["image"]).name
    assert copy.read_bytes() == (folder / "spectrogram.png").read_bytes()
    card.locator("[data-act=like]").click()
    page.until("document.querySelectorAll(\"#results [data-id*='-4321-']\").length === 5")
    records = [json.loads(path.read_text()) for path in server.output.glob("*/samples/*-4321-*/sample.json")]
    assert all(record["config"]["data"]["prompts"][0]["start"] == start for record in records)


@pytest.mark.slow
def test_the_keyboard_is_enough(server, sample, visit, cards):
    page = visit(server)
    cards(page).first.wait_for()

    def tab_to(selector):
        for _ in range(80):
            page.keyboard.press("Tab")
            if page.evaluate("s => document.activeElement.closest(s) !== null", selector):
                return
        raise AssertionError(f"{selector} is not reached by Tab")

    tab_to("#audio")
    page.keyboard.press("ControlOrMeta+a")
    page.keyboard.type("train whistling")
    count = cards(page).count()
    page.keyboard.press("Enter")
    page.until(f"document.querySelectorAll('#results .its-card').length === {count + 1}")
    page.locator("#eight").focus()
    tab_to(".its-card .picture")
    page.keyboard.press("ArrowRight")
    page.keyboard.press(" ")
    page.until("player.playing && player.audio.currentTime > 0.5")
    page.keyboard.press(" ")
    page.until("!player.playing")
    tab_to(".its-card .play")
    tab_to("[data-act=favourite]")
    page.keyboard.press("Enter")
    page.until("document.activeElement.getAttribute('aria-pressed') === 'true'")


@pytest.mark.slow
def test_nothing_sticks_out_on_a_phone(server, sample, visit, cards):
    page = visit(server, viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    cards(page).first.wait_for()
    for tab in ("Make", "Play a picture", "Runs"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(200)
        assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_after_a_restart_the_run_is_there(server, serve, sample, visit):
    run, _ = sample
    page = visit(serve(server.output, loads=False))
    page.get_by_role("tab", name="Runs").click()
    page.locator("#run-cards .its-card").first.wait_for()
    assert page.locator("#run input").input_value() == run
    page.locator("#run-cards .play").first.click()
    page.until("player.playing")
