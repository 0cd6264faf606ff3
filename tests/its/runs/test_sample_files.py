import json
import multiprocessing
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from safetensors.torch import load_file

from its.errors import UserError
from its.media.colormap import MAGMA
from its.media.metadata import read_metadata
from its.methods.sample import Result, Sample
from its.runs.records import read_record
from its.runs.sample_files import is_done, write_sample
from its.specs.spec import SampleSpec, sample_id

ROW = SampleSpec(
    prompts={"visual": "A Castle!", "audio": "bell"},
    negative_prompts={"visual": "", "audio": ""},
    guidance_scale={"visual": 10.0, "audio": 10.0},
    seed=7,
    source="test",
)
RECORD = {"id": "x", "prompts": {"visual": "A Castle!"}, "seed": 7}
RESULT = Result(
    latents=torch.randn(4, 8, 12),
    spectrogram=torch.linspace(0, 1, 64 * 96).reshape(64, 96),
    picture=torch.rand(3, 64, 96),
    waveform=torch.linspace(-1.5, 1.5, 1000),
    sample_rate=16_000,
)


def test_the_id_is_a_slug_a_seed_and_a_digest():
    assert sample_id(ROW, {}).startswith("a-castle-bell-7-")


@pytest.mark.parametrize("prompt", ["../../etc/passwd", "/", "..", "a\0b", "<script>", "C:\\x", "城", "", "x" * 500])
def test_a_prompt_is_never_a_path(prompt):
    name = sample_id(replace(ROW, prompts={"visual": prompt}), {})
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert 0 < len(name) < 100


def test_the_id_follows_everything_that_defines_the_sample():
    variants = [
        replace(ROW, seed=8),
        replace(ROW, prompts={**ROW.prompts, "audio": "Bell"}),  # the same slug
        replace(ROW, negative_prompts={"visual": "x", "audio": ""}),
        replace(ROW, guidance_scale={"visual": 10.0, "audio": 5.0}),
    ]
    ids = {sample_id(row, {"steps": 1}) for row in [ROW, *variants]} | {sample_id(ROW, {"steps": 2})}
    assert len(ids) == len(variants) + 2
    assert sample_id(replace(ROW, source="elsewhere"), {"steps": 1}) in ids


def test_written_files_can_be_read(tmp_path):
    write_sample(tmp_path, Sample(spec=ROW, result=RESULT), RECORD, ["image", "latents"])
    gray = np.asarray(Image.open(tmp_path / "spectrogram.png"))
    assert gray.shape == (64, 96)
    assert gray.dtype == np.uint8
    assert abs(gray / 255 - RESULT.spectrogram.numpy()).max() <= 0.5 / 255 + 1e-6  # rounded, not truncated
    assert np.asarray(Image.open(tmp_path / "image.png")).shape == (64, 96, 3)
    sound, rate = soundfile.read(tmp_path / "audio.wav", dtype="float32")
    assert (rate, len(sound)) == (16_000, 1000)
    assert abs(sound - RESULT.waveform.clamp(-1, 1).numpy()).max() < 1e-4
    assert soundfile.info(tmp_path / "audio.wav").subtype == "PCM_16"
    assert torch.equal(load_file(tmp_path / "latents.safetensors")["latents"], RESULT.latents)
    assert read_record(tmp_path) == {**RECORD, "status": "ok"}


def test_the_colour_map_is_of_the_spectrogram_s_own_gray_levels(tmp_path):
    record = {**RECORD, "config": {}, "settings": {}, "weights": {}}
    write_sample(tmp_path, Sample(spec=ROW, result=RESULT), record, ["colormap"], metadata=True)
    gray, mapped = (np.asarray(Image.open(tmp_path / name)) for name in ("spectrogram.png", "colormap.png"))
    assert mapped.shape == (64, 96, 3)
    assert (mapped == MAGMA[gray]).all()
    assert read_metadata(tmp_path / "colormap.png")["id"] == "x"
    assert is_done(tmp_path, ["colormap"])
    (tmp_path / "colormap.png").unlink()
    assert not is_done(tmp_path, ["colormap"])


def test_the_colour_map_of_stereo_is_of_the_channels_mean(tmp_path):
    stereo = torch.stack([torch.full((64, 96), level) for level in (0.2, 0.4, 0.6)])
    write_sample(tmp_path, Sample(spec=ROW, result=replace(RESULT, spectrogram=stereo)), {}, ["colormap"])
    assert (np.asarray(Image.open(tmp_path / "colormap.png")) == MAGMA[round(0.4 * 255)]).all()


@pytest.mark.parametrize("colored", [True, False])
def test_a_video_of_the_colour_picture_comes_with_the_video(tmp_path, colored):
    color, extras = (torch.rand(3, 64, 96), ["video", "color"]) if colored else (None, ["video"])
    record = {"id": "x", "prompts": dict(ROW.prompts), "seed": 7, "weights": {}, "settings": {}, "config": {}}
    write_sample(tmp_path, Sample(spec=ROW, result=replace(RESULT, color=color)), record, extras, metadata=True)
    assert (tmp_path / "color.mp4").exists() == colored
    assert is_done(tmp_path, extras)
    if colored:
        assert read_metadata(tmp_path / "color.mp4")["id"] == "x"
        (tmp_path / "color.mp4").unlink()
        assert not is_done(tmp_path, extras)
        assert is_done(tmp_path, ["color"])


def test_only_selected_extras_are_written(tmp_path):
    write_sample(tmp_path, Sample(spec=ROW, result=RESULT), RECORD)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["audio.wav", "sample.json", "spectrogram.png"]


def test_a_sample_without_its_record_is_not_done(tmp_path):
    write_sample(tmp_path, Sample(spec=ROW, result=RESULT), RECORD, ["latents"])
    assert is_done(tmp_path)
    assert is_done(tmp_path, ["latents"])
    assert not is_done(tmp_path, ["image"])
    (tmp_path / "sample.json").write_text('{"status": "o')
    assert not is_done(tmp_path)


def test_partial_files_are_removed_when_the_sample_is_written(tmp_path):
    left = [tmp_path / f".{name}.0123abcd.partial" for name in ("sample.json", "color.png")]
    for path in left:
        path.touch()
    write_sample(tmp_path, Sample(spec=ROW, result=RESULT), RECORD)
    assert [path for path in left if path.exists()] == []
    assert (tmp_path / "sample.json").exists()


def test_the_record_comes_last(tmp_path, monkeypatch):
    write_sample(tmp_path, Sample(spec=ROW, result=RESULT), RECORD)
    monkeypatch.setattr(soundfile, "write", lambda *a, **k: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_sample(tmp_path, Sample(spec=ROW, result=RESULT), RECORD)
    assert not is_done(tmp_path)  # although an earlier sample was complete


def test_a_failed_sample_says_why_and_is_not_done(tmp_path):
    write_sample(tmp_path, Sample(spec=ROW, error="it is too dark"), {"id": "x"})
    record = json.loads((tmp_path / "sample.json").read_text())
    assert record == {"id": "x", "status": "failed", "error": "it is too dark", "traceback": None}
    assert not is_done(tmp_path)


def test_processes_that_write_one_sample_do_not_mix(tmp_path):
    folder = tmp_path / "run" / "samples" / "x"
    rows = [replace(RESULT, waveform=torch.full((20_000,), level)) for level in (0.1, 0.2, 0.3)]

    def write(result):
        for _ in range(8):
            write_sample(folder, Sample(spec=ROW, result=result), RECORD, ["image"], metadata=True)

    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write, args=(row,)) for row in rows]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert read_record(folder)["status"] == "ok"
    sound, _ = soundfile.read(folder / "audio.wav")
    assert len(sound) == 20_000
    assert len(set(sound)) == 1
    assert read_metadata(folder / "audio.wav")["id"] == "x"
    names = ["audio.wav", "image.png", "sample.json", "spectrogram.png"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_a_full_disk_names_the_file_and_leaves_nothing_half(tmp_path):
    def write():
        resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000))  # the picture fits, the sound does not
        try:
            write_sample(tmp_path / "run" / "samples" / "x", Sample(spec=ROW, result=loud), RECORD)
        except OSError as error:
            (tmp_path / "said").write_text(str(error))

    loud = replace(RESULT, waveform=torch.rand(20_000))
    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join()
    said = (tmp_path / "said").read_text()
    assert said.endswith("x/audio.wav can't be written: File too large")
    assert [path.name for path in (tmp_path / "run" / "samples" / "x").iterdir()] == ["spectrogram.png"]


@pytest.mark.parametrize("link", ["samples", "samples/x"])
def test_a_sample_is_not_written_through_a_link(tmp_path, link):
    home, folder = tmp_path / "home", tmp_path / "run" / "samples" / "x"
    (home / "x").mkdir(parents=True)
    (tmp_path / "run" / link).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "run" / link).symlink_to(home)
    with pytest.raises(UserError, match="is a symbolic link"):
        write_sample(folder, Sample(spec=ROW, result=RESULT), RECORD)
    assert list(home.iterdir()) == [home / "x"]
    assert not list((home / "x").iterdir())


def test_links_in_a_sample_s_folder_are_replaced(tmp_path):
    folder = tmp_path / "run" / "samples" / "x"
    folder.mkdir(parents=True)
    (tmp_path / "private").write_text("secret")
    for name in ("spectrogram.png", "audio.wav", "sample.json", "image.png", "latents.safetensors"):
        (folder / name).symlink_to(tmp_path / "private")
    write_sample(folder, Sample(spec=ROW, result=RESULT), RECORD, ["image", "latents"])
    assert (tmp_path / "private").read_text() == "secret"
    assert is_done(folder, ["image", "latents"])
    assert not any(path.is_symlink() for path in folder.iterdir())


def test_a_folder_at_the_root_of_the_file_system_can_be_named(monkeypatch):
    """A user may save a sample anywhere. There is no folder above its parent then."""

    def make_folder(path):
        raise PermissionError(path)

    monkeypatch.setattr("its.runs.sample_files.make_folder", make_folder)
    with pytest.raises(PermissionError, match="/castle"):
        write_sample(Path("/castle"), None, {})
