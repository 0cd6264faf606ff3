import pytest

from its.errors import UserError
from its.runs.reader import read_runs


def test_samples_come_with_size_length_and_files(add, tmp_path):
    folder = add(seconds=3.0)
    (run,) = read_runs([tmp_path / "run"])
    (found,) = run.samples
    assert (found.size, found.seconds, found.damage) == ((128, 64), 3.0, [])
    assert found.files == ["audio.wav", "sample.json", "spectrogram.png"]
    assert (found.folder, run.name, found.playable) == (folder, "run", True)


@pytest.mark.parametrize(
    ("name", "content", "damage"),
    [
        ("audio.wav", None, "audio.wav is missing"),
        ("audio.wav", b"RIFF", "audio.wav can't be read"),
        ("audio.wav", b"", "audio.wav can't be read"),
        ("spectrogram.png", None, "spectrogram.png is missing"),
        ("spectrogram.png", b"GIF89a" * 9, "spectrogram.png can't be read: it is not a PNG file"),
    ],
)
def test_damage_is_named(add, tmp_path, name, content, damage):
    file = add() / name
    file.unlink() if content is None else file.write_bytes(content)
    ((found,),) = [run.samples for run in read_runs([tmp_path / "run"])]
    assert not found.playable
    assert [d[: len(damage)] for d in found.damage] == [damage]


def test_folders_without_a_record_are_counted_and_left_out(add, tmp_path):
    add(seed=1)
    (add(seed=2) / "sample.json").write_text("{")
    (run,) = read_runs([tmp_path / "run"])
    assert (len(run.samples), len(run.unfinished)) == (1, 1)


def test_names_of_runs_are_as_long_as_it_takes(add, tmp_path):
    for run in ("x/run", "y/run", "other"):
        add(run)
    assert [run.name for run in read_runs([tmp_path / r for r in ("x/run", "y/run", "other")])] == [
        "x/run",
        "y/run",
        "other",
    ]


def test_folders_that_are_not_runs_are_errors(add, tmp_path):
    add()
    (tmp_path / "empty" / "samples" / "x").mkdir(parents=True)
    with pytest.raises(UserError, match=r"nowhere has no folder samples; expected a run directory"):
        read_runs([tmp_path / "nowhere"])
    with pytest.raises(UserError, match="no samples: samples/ has 1 folders without a readable sample.json"):
        read_runs([tmp_path / "empty"])
    with pytest.raises(UserError, match="is given twice"):
        read_runs([tmp_path / "run", tmp_path / "x" / ".." / "run"])
