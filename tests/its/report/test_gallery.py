import json
import re
from urllib.parse import unquote

import pytest

from its.cli import main
from its.report.gallery import page_data, write_gallery
from its.runs.reader import read_runs

NASTY = "</script><script>document.title='hit'</script><img src=x onerror=\"document.title='hit'\"> & {{ 7 * 7 }}"


def data_of(page):
    """Read the JSON in a page, as a browser does."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page.read_text(), re.DOTALL)
    return json.loads(text)


def test_a_page_has_relative_links_and_shared_values(add, tmp_path, capsys):
    folders = [add("a", seed=seed) for seed in (1, 2, 10)] + [add("b", seed=1, settings={"vocoder": {"class": "X"}})]
    assert main(["gallery", str(tmp_path / "a"), str(tmp_path / "b"), "--output", str(tmp_path / "c" / "d")]) == 0
    assert "4 samples of 2 runs" in capsys.readouterr().out
    page = tmp_path / "c" / "d" / "index.html"
    data = data_of(page)
    assert {(page.parent / sample["folder"]).resolve() for sample in data["samples"]} == {*folders}
    assert (len(data["setups"]), len(data["pitches"]), len(data["times"])) == (2, 1, 1)
    assert [run["folder"] for run in data["runs"]] == ["../../a", "../../b"]
    assert data["samples"][0]["again"] == f"its rerun ../../a/samples/{folders[0].name}/sample.json"
    assert {sample["took"] for sample in data["samples"]} == {4.0}  # 8 s for two
    assert str(tmp_path) not in page.read_text()


def test_a_prompt_is_never_html(add, tmp_path):
    add(prompts={"visual": NASTY, "audio": NASTY}, fallback=NASTY)
    page, _ = write_gallery([tmp_path / "run"], tmp_path / "run")
    text = page.read_text()
    assert text.count("<script") == text.count("</script") == 2  # the data and the page's own
    assert "<img src=x" not in text
    assert "49" not in re.findall(r'<p class="loud">.*?</p>', text, re.DOTALL)[0]
    assert data_of(page)["samples"][0]["prompts"]["visual"] == NASTY


def test_whose_weights_is_said_loudly(add, tmp_path):
    add("real")
    add("pack", weights={"codec": {"name": "pack:mini", "sha256": "0", "embedded": True}})
    add("fallen", weights={"codec": {"name": "pack:mini", "embedded": True}}, fallback="no network <here>")
    texts = {
        name: write_gallery([tmp_path / name], tmp_path / name)[0].read_text() for name in ("real", "pack", "fallen")
    }
    assert 'class="loud"' not in texts["real"]
    assert "Made with the embedded demo weights" in texts["pack"]
    assert "Not made with the weights in the config" in texts["fallen"]
    assert "no network &lt;here&gt;" in texts["fallen"]
    write_gallery([tmp_path / "real", tmp_path / "pack"], tmp_path / "both")
    assert "1 of 2 were made with the embedded demo weights" in (tmp_path / "both" / "index.html").read_text()


def test_failed_and_damaged_samples_are_listed(add, tmp_path, capsys):
    add(seed=1, error="not finite: the picture")
    (add(seed=2) / "audio.wav").unlink()
    assert main(["gallery", str(tmp_path / "run")]) == 0
    assert "audio.wav is missing" in capsys.readouterr().out
    samples = {sample["seed"]: sample for sample in data_of(tmp_path / "run" / "index.html")["samples"]}
    assert (samples["1"]["status"], samples["1"]["error"]) == ("failed", "not finite: the picture")
    assert (samples["2"]["status"], samples["2"]["error"]) == ("damaged", "audio.wav is missing")
    assert "2 incomplete" in (tmp_path / "run" / "index.html").read_text()


def test_records_of_others_are_taken_as_they_come(add, tmp_path):
    scores = {"clip": float("nan"), "mini": {"visual": 0.5, "why": "x"}}
    add(scores=scores, settings={"x": float("inf")}, timings={}, rank="first", kept="yes")
    (sample,) = (data := page_data(read_runs([tmp_path / "run"]), tmp_path))["samples"]
    json.dumps(data, allow_nan=False)
    assert sample["scores"] == {"mini visual": 0.5}
    assert (sample["rank"], sample["kept"], sample["took"]) == (None, None, None)


def test_seeds_that_javascript_rounds_stay_apart(add, tmp_path):
    add(seed=2**53), add(seed=2**53 + 1)
    page, _ = write_gallery([tmp_path / "run"], tmp_path / "run")
    assert {sample["seed"] for sample in data_of(page)["samples"]} == {str(2**53), str(2**53 + 1)}


def test_favourites_are_marked(add, tmp_path):
    for seed, favourite in ((1, True), (2, False), (3, "yes")):
        add(seed=seed, favourite=favourite)
    samples = page_data(read_runs([tmp_path / "run"]), tmp_path)["samples"]
    assert {sample["seed"]: sample["favourite"] for sample in samples} == {"1": True, "2": False, "3": False}


def test_the_command_for_the_whole_run_is_for_its_maker_alone(add, tmp_path):
    """The config of a received run may name any plugin."""
    add()
    for own in (True, False):
        page, _ = write_gallery([tmp_path / "run"], tmp_path / "run", own=own)
        assert ("its predict --config its_config.yaml" in page.read_text()) == own


def test_commands_are_quoted(add, tmp_path):
    folder = add("$(rm -rf ~); x")
    page, _ = write_gallery([tmp_path / "$(rm -rf ~); x"], tmp_path)
    (sample,) = data_of(page)["samples"]
    assert sample["again"] == f"its rerun '$(rm -rf ~); x/samples/{folder.name}/sample.json'"


def test_foreign_files_are_not_overwritten(add, tmp_path, capsys):
    add()
    (tmp_path / "run" / "index.html").write_text("<html>my homepage")
    assert main(["gallery", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(r"its: \S+index.html .*not written by .*move it away.*\n", error)
    assert (tmp_path / "run" / "index.html").read_text() == "<html>my homepage"
    (tmp_path / "run" / "index.html").unlink()
    assert main(["gallery", str(tmp_path / "run")]) == main(["gallery", str(tmp_path / "run")]) == 0  # our own is


@pytest.mark.parametrize("wrong", ["nowhere", "empty"])
def test_wrong_folders_change_nothing(add, tmp_path, capsys, wrong):
    add()
    (tmp_path / "empty" / "samples").mkdir(parents=True)
    assert main(["gallery", str(tmp_path / "run"), str(tmp_path / wrong), "--output", str(tmp_path / "out")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["con", "aux.txt", "trailing.", "two words", "100%#?&'", "城 ü é", "-rf", "n" * 255])
def test_runs_of_any_name_are_linked(name, add):
    folder = add(run=name)
    page, _ = write_gallery([folder.parents[1]], folder.parents[1])
    (sample,) = data_of(page)["samples"]
    target = page.parent / unquote(sample["folder"])
    assert (target / "spectrogram.png").is_file()
    page, _ = write_gallery([folder.parents[1]], folder.parents[2] / "gallery")
    (sample,) = data_of(page)["samples"]
    assert (page.parent / unquote(sample["folder"]) / "audio.wav").is_file()
    if name == "-rf":
        assert sample["again"].split()[2].startswith(("../", "./"))
