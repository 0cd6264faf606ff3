"""The page of a study in Chromium, opened from disk."""

import json

import pytest

from its.cli import main

pytestmark = pytest.mark.browser

NASTY = "<script>window.hit = 1</script>"


@pytest.fixture
def study(add, browse, tmp_path):
    for run, tone in (("ours", 300.0), ("theirs", 500.0)):
        for seed in (1, 2):
            add(run, seed=seed, seconds=0.2, tone=tone * seed)
        add(run, prompts={"visual": NASTY, "audio": "a bell"}, seconds=0.2, tone=tone)
    folders = [str(tmp_path / run) for run in ("ours", "theirs")]
    assert main(["study", *folders, "--catch", "2", "--output", str(tmp_path / "study")]) == 0
    return browse(tmp_path / "study" / "index.html", accept_downloads=True)


def hear(page, side):
    page.locator(".play").nth(side).click()
    page.until(f"heard.has(SIDES[{side}])")


def answer(page, name, side):
    page.locator(f"input[name={name}][value={side}]").check()


def test_a_participant_goes_through(study, tmp_path, capsys):
    study.get_by_role("button", name="Begin").click()
    trials = study.evaluate("trials")
    assert sum(trial["catch"] for trial in trials) == 2
    for trial in trials:
        sides = {trial["left"]["run"], trial["right"]["run"]}
        assert (None in sides and len(sides) == 2) if trial["catch"] else sides == {"ours", "theirs"}
        best = "left" if trial["left"]["run"] == "ours" or trial["right"]["run"] is None else "right"
        for side in (0, 1):
            hear(study, side)
        for name in ("visual", "audio", "alignment"):
            answer(study, name, best)
        study.locator("#next").click()
    with study.expect_download() as download:
        study.get_by_text("Save the answers").click()
    saved = tmp_path / download.value.suggested_filename
    download.value.save_as(saved)
    content = json.loads(saved.read_text())
    assert saved.name == f"answers-{content['participant']}.json"
    assert [t["answers"] for t in content["trials"]] == [t["answers"] for t in study.evaluate("trials")]
    capsys.readouterr()
    assert main(["study-results", str(saved)]) == 0
    printed = capsys.readouterr().out
    assert "excluded" not in printed
    assert printed.count("100.0 (20.7 to 100.0)") == 6  # three questions, two pairs of prompts


def test_no_answer_before_both_were_played_to_the_end(study):
    study.get_by_role("button", name="Begin").click()
    assert study.locator("fieldset:disabled").count() == 3
    assert study.locator("#next").is_disabled()
    hear(study, 0)
    assert study.locator("fieldset:disabled").count() == 3
    assert "Play both" in study.locator("#hint").inner_text()
    hear(study, 1)
    assert study.locator("fieldset:disabled").count() == 0
    for name in ("visual", "audio"):
        answer(study, name, "right")
    assert study.locator("#next").is_disabled()
    answer(study, "alignment", "left")
    assert study.locator("#next").is_enabled()


def test_prompts_are_text_and_methods_are_not_revealed(study):
    study.get_by_role("button", name="Begin").click()
    while NASTY not in study.locator("#questions").inner_text():
        study.evaluate("next()")
    assert study.evaluate("window.hit") is None
    assert "ours" not in study.locator("body").inner_text()
    assert all("ours" not in (image.get_attribute("src") or "") for image in study.locator("img").all())


def test_sides_and_order_are_drawn_by_chance(study):
    drawn = study.evaluate("Array.from({length: 400}, draw)")
    left = [trial["left"]["run"] == "ours" for trials in drawn for trial in trials if not trial["catch"]]
    assert 0.42 < sum(left) / len(left) < 0.58  # 800 draws: 4.5 standard deviations
    noise = [trial["left"]["run"] is None for trials in drawn for trial in trials if trial["catch"]]
    assert 0.42 < sum(noise) / len(noise) < 0.58
    first = [trials[0]["catch"] for trials in drawn]
    assert 0.37 < sum(first) / len(first) < 0.63  # 2 of 4 trials
    samples = {trial["left"]["sample"] for trials in drawn for trial in trials}
    assert len(samples) == 3 + 1  # each sample of each prompt, by the same id in both runs, and noise
