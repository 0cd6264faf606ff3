"""The runs below the output directory, and which files of them are served."""

import json
import os
import time

import pytest

from its.app.library import Library
from its.errors import UserError
from its.runs.records import read_record


@pytest.fixture
def library(tmp_path):
    return Library(tmp_path)


def test_runs_and_samples_are_listed_newest_first(add, library):
    folders = [add("old", seed=seed) for seed in (1, 2, 3)]
    for age, folder in enumerate(reversed(folders)):
        os.utime(folder / "sample.json", (time.time() - age, time.time() - age))
    add("new")
    os.utime(library.output / "old" / "samples", (1, 1))
    (library.output / "no run").mkdir()
    (library.output / "link").symlink_to(library.output / "old")
    (library.output / "file").write_text("")
    assert library.runs() == ["new", "old"]
    samples, total = library.samples("old", first=1, count=1)
    assert total == 3
    assert [sample.record["seed"] for sample in samples] == [2]


def test_favourites_are_in_the_records(add, library):
    folder, _ = add(seed=1), add(seed=2)
    library.set_favourite("run", folder.name, True)
    found, total = library.samples("run", count=9, select=lambda sample: sample.record.get("favourite") is True)
    assert [sample.folder for sample in found] == [folder]
    assert total == 1
    library.set_favourite("run", folder.name, False)
    assert read_record(folder)["favourite"] is False


@pytest.mark.parametrize("name", ["..", ".", "", "nothing", "/etc", "a\0b", "../run"])
def test_other_names_are_refused(add, library, name):
    folder = add()
    with pytest.raises(UserError):
        library.run(name)
    with pytest.raises(UserError):
        library.sample("run", name)
    assert library.file("run", folder.name, name) is None
    assert library.file("run", name, "sample.json") is None
    assert library.file(name, folder.name, "sample.json") is None


def test_links_hidden_and_other_files_are_not_served(add, library, tmp_path):
    folder = add()
    (tmp_path / "secret.png").write_bytes(b"secret")
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    (folder / ".hidden.png").write_bytes(b"x")
    (folder / "page.html").write_text("<script>")
    assert library.file("run", folder.name, "spectrogram.png") == folder / "spectrogram.png"
    for name in ("link.png", ".hidden.png", "page.html", "../../../secret.png"):
        assert library.file("run", folder.name, name) is None
    moved = folder.with_name("moved")
    moved.symlink_to(folder)
    assert library.file("run", "moved", "spectrogram.png") is None


def test_a_damaged_record_hides_its_sample_alone(add, library):
    broken, whole = add(seed=1), add(seed=2)
    (broken / "sample.json").write_text(json.dumps({"status": 3}))
    found, _ = library.samples("run", count=9)
    assert [sample.folder for sample in found] == [whole]
