"""The gallery in Chromium, opened from disk."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from its.report.gallery import write_gallery

pytestmark = pytest.mark.browser

WATCH = """async ([card, frames]) => {
  const picture = document.querySelectorAll(".card")[card].querySelector(".picture");
  const seen = [];
  for (let frame = 0; frame < frames; frame++) {
    await new Promise(requestAnimationFrame);
    const [box, line] = [picture, picture.querySelector(".playhead")].map((e) => e.getBoundingClientRect());
    seen.push([(line.left - box.left) / box.width * player.surface.seconds, player.audio.currentTime]);
  }
  return seen;
}"""
"""Position of the line on the screen and time of the audio clock, both in seconds."""


@pytest.fixture
def show(browse, tmp_path):
    def show(*runs, **context):
        page, _ = write_gallery([tmp_path / run for run in runs or ["run"]], tmp_path / (runs or ["run"])[0])
        return browse(page, **context)

    return show


def play(page, card):
    page.locator(".card").nth(card).locator(".play").click()
    page.until("player.audio.currentTime > 0.05")


def shown(page):
    page.wait_for_timeout(150)  # the page filters shortly after the last key
    return page.locator(".card .prompts dd:first-of-type").all_inner_texts()[::2]


def test_it_plays_and_the_line_is_where_the_sound_is(add, show):
    add(seconds=3.0)
    page = show()
    play(page, 0)
    seen = page.evaluate(WATCH, [0, 40])
    clock = [time for _, time in seen]
    assert clock[-1] - clock[0] > 0.2
    assert max(abs(line - time) for line, time in seen) < 0.05
    assert page.evaluate("player.audio.webkitAudioDecodedByteCount") > 0
    assert page.evaluate("player.audio.duration") == pytest.approx(3.0, abs=1e-3)


def test_a_click_seeks_and_plays_from_there(add, show):
    add(seconds=3.0)
    page = show()
    box = page.locator(".picture").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5, box["y"] + 20)
    page.until("player.playing && player.audio.currentTime > 1.5")
    seen = page.evaluate(WATCH, [0, 10])
    assert seen[0][1] >= 1.5
    assert max(abs(line - time) for line, time in seen) < 0.05


def test_a_click_seeks_on_a_server_without_range_requests(add, tmp_path, chromium):
    add(seconds=3.0)
    write_gallery([tmp_path / "run"], tmp_path / "run")
    handler = partial(QuietHandler, directory=tmp_path / "run")
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        context = chromium.new_context()
        try:
            page = context.new_page()
            page.set_default_timeout(20_000)
            page.goto(f"http://127.0.0.1:{server.server_port}/")
            for place in (0.5, 0.2, 0.7):  # the first before the sound is known, the others while it plays
                box = page.locator(".picture").bounding_box()
                page.mouse.click(box["x"] + box["width"] * place, box["y"] + 20)
                page.wait_for_function(
                    "at => player.playing && player.audio.currentTime > at && player.audio.currentTime < at + 1",
                    arg=3.0 * place,
                )
        finally:
            context.close()
            server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    """The handler of `python -m http.server`, which does not support range requests."""

    def log_message(self, *what):
        pass


def test_one_sound_at_a_time_and_each_keeps_its_place(add, show):
    for seed in (1, 2):
        add(seed=seed)
    page = show()
    play(page, 0)
    play(page, 1)
    assert page.locator(".card.playing").count() == 1
    assert page.evaluate("document.querySelectorAll('.card')[1].classList.contains('playing')")
    assert page.evaluate("document.querySelectorAll('.card')[0].surface.at") > 0


def test_keys(add, show):
    for seed in (1, 2):
        add(seed=seed)
    page = show()
    page.keyboard.press("Space")
    page.until("player.playing")
    page.keyboard.press("Space")
    page.until("!player.playing")
    page.keyboard.press("j")
    slider = page.locator(".picture").nth(1)
    assert slider.evaluate("e => e === document.activeElement")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("player.surface.at") == 0.5
    assert slider.get_attribute("aria-valuetext") == "0.5 of 3.0 seconds"
    assert slider.get_attribute("role") == "slider"
    page.keyboard.press("Space")
    page.until("player.playing && player.audio.currentTime > 0.5")
    page.keyboard.press("Space")
    page.keyboard.press("End")
    assert float(slider.get_attribute("aria-valuenow")) == 3
    page.keyboard.press("k")
    page.keyboard.press("/")
    page.keyboard.type("  ")  # in a field, Space writes
    assert page.locator("#find").input_value() == "  "
    assert not page.evaluate("player.playing")


def test_search_filters_and_order(add, show):
    for seed, picture, clip in ((3, "dogs", 0.2), (20, "castles", 0.9), (100, "tigers", None)):
        add(seed=seed, prompts={"visual": picture, "audio": "noise"}, scores={} if clip is None else {"CLIP": clip})
    add(seed=1, prompts={"visual": "lost", "audio": "noise"}, error="out of memory")
    page = show()
    assert shown(page) == ["castles", "dogs", "tigers", "lost"]
    page.locator("#find").fill("dog noi")
    assert shown(page) == ["dogs"]
    assert page.locator("#count").inner_text() == "1 of 4"
    page.locator("#find").fill("")
    page.locator("#sort").select_option("seed")
    assert shown(page) == ["dogs", "castles", "tigers", "lost"]  # as numbers
    page.locator("#sort").select_option("score CLIP")
    assert shown(page) == ["castles", "dogs", "tigers", "lost"]
    page.locator("#least").fill("0.5")
    assert shown(page) == ["castles"]
    page.locator("#least").fill("")
    page.locator("#status").select_option("failed")
    assert shown(page) == ["lost"]
    assert "out of memory" in page.locator(".card .error").inner_text()
    page.locator("#find").fill("no such thing")
    assert shown(page) == []
    assert "No sample" in page.locator("main").inner_text()


def test_a_script_in_a_prompt_is_text(add, show):
    nasty = "</script><script>window.hit = 1</script><img src=x onerror='window.hit = 1'>"
    add(prompts={"visual": nasty, "audio": "<b>bell</b>"}, error=nasty)
    page = show()
    assert page.locator(".prompts dd").all_inner_texts() == [nasty, "<b>bell</b>"]
    assert nasty in page.locator(".error").inner_text()
    page.locator(".card summary").click()
    assert page.evaluate("window.hit") is None


def test_samples_of_one_prompt_and_seed_side_by_side(add, show):
    for run, vocoder in (("a", "HiFiGAN"), ("b", "GriffinLim")):
        add(run, seed=1, settings={"vocoder": {"class": vocoder, "of": vocoder}})
        add(run, seed=len(vocoder))  # without a sample of the same seed in the other run
    page = show("a", "b")
    assert page.locator(".group").count() == 1
    assert page.locator(".differs span").all_inner_texts() == ["a", "HiFiGAN", "b", "GriffinLim"]
    play(page, 0)
    page.until("player.audio.currentTime > 0.4")
    page.locator(".card").nth(1).locator(".play").click()
    page.until("player.playing && player.audio.readyState > 2")
    assert page.evaluate("player.audio.currentTime") > 0.35  # the same moment of the other one
    page.locator("#compare").uncheck()
    page.wait_for_timeout(150)
    assert page.locator(".card").count() == 4


def test_colour_comes_in_as_the_sound_goes_on(add, show):
    add(color=True)
    page = show()
    opacity = "getComputedStyle(document.querySelector('img.color')).opacity"
    assert page.evaluate(opacity) == "0"
    page.locator(".picture").focus()
    page.keyboard.press("End")
    page.until(f"{opacity} === '1'")
    page.get_by_role("button", name="Gray", exact=True).click()
    page.until(f"{opacity} === '0'")


def test_missing_samples_are_reported_on_the_page(add, show):
    (add(seed=1) / "audio.wav").unlink()
    (add(seed=2) / "spectrogram.png").unlink()
    page = show()
    assert [text.split("\n")[1] for text in page.locator(".error").all_inner_texts()] == [
        "audio.wav is missing",
        "spectrogram.png is missing",
    ]
    assert page.locator(".card img").count() == 1  # a picture without sound can be looked at
    assert page.locator(".play").count() == 0


def test_many_samples_are_built_as_they_are_needed(add, show):
    for seed in range(60):
        add(seed=seed, seconds=0.1)
    page = show()
    assert page.locator(".card").count() == 24
    assert page.locator(".card img").first.get_attribute("loading") == "lazy"
    assert page.evaluate("player.audio.preload") == "none"
    page.evaluate("scrollTo(0, document.body.scrollHeight)")
    page.until("document.querySelectorAll('.card').length >= 48")
    assert page.locator("#count").inner_text() == "60 samples"


def test_settings_command_and_files_are_there(add, show):
    folder = add(color=True)
    page = show()
    page.locator(".card summary").click()
    page.wait_for_selector(".settings")
    text = page.locator(".card details").inner_text()
    assert f"its rerun samples/{folder.name}/sample.json" in text
    assert "HiFiGAN" in text
    assert "some/model, 0123456789ab" in text
    links = [page.evaluate("e => e.href", link) for link in page.locator(".files a").element_handles()]
    assert sorted(links) == sorted(path.as_uri() for path in folder.iterdir())


def test_nothing_sticks_out_on_a_phone(add, show):
    add(
        prompts={"visual": "x" * 300, "audio": "a very long prompt " * 20},
        color=True,
        scores={"CLIP": 0.3, "CLAP": 0.2},
    )
    page = show(viewport={"width": 390, "height": 844}, has_touch=True)
    page.locator(".card summary").click()
    page.locator("#filters").click()
    assert page.locator("#sort").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
