"""Tests of downloads: logged once with their sizes, checked against the disk, and started after all is found."""

import shutil

import pytest

from its.errors import UserError
from its.weights import Download, PretrainedComponent, WeightsNotFound, download, prepare
from its.weights import hub as hub_of_its
from its.weights.downloads import MARGIN, check_disk_space, describe, merge_downloads, size
from its.weights.hub import list_repository

REPOSITORY = "someone/model"
UNET, CONFIG, SCHEDULE = (
    "unet/diffusion_pytorch_model.safetensors",
    "unet/config.json",
    "scheduler/scheduler_config.json",
)


class Reads(PretrainedComponent):
    """Component that reads some files."""

    def __init__(self, *names, weights=REPOSITORY):
        super().__init__(weights=weights)
        self.names = names

    def select(self, source):
        source.require(*self.names)
        for name in self.names:
            if name.endswith(".json"):
                source.json(name)
        return self.names

    def read(self):
        pass


@pytest.fixture
def two(served, tree, tmp_path):
    """Second repository with the same files."""
    served.add("someone/other", shutil.copytree(tree, tmp_path / "other"), revision="b" * 40)
    return served


def test_sizes_as_people_read_them():
    sizes = {0: "0 bytes", 999: "999 bytes", 54_808_625: "54.8 MB", 3_438_167_534: "3.44 GB", 1_500: "1.5 kB"}
    assert {count: size(count) for count in sizes} == sizes


def test_downloads_of_one_source_are_joined(two):
    first, again, other = (
        list_repository(name, None, name=name, checkpoint=None) for name in (REPOSITORY, REPOSITORY, "someone/other")
    )
    wanted = [
        Download(source=first, sizes={UNET: 7}),
        Download(source=other, sizes={UNET: 7}),
        Download(source=again, sizes={CONFIG: 3, UNET: 7}),
    ]
    assert [(one.source.name, dict(one.sizes)) for one in merge_downloads(wanted)] == [
        (REPOSITORY, {UNET: 7, CONFIG: 3}),
        ("someone/other", {UNET: 7}),
    ]
    assert describe(merge_downloads(wanted)[0]) == f"{REPOSITORY} at aaaaaaa: 2 files, 10 bytes"


def test_components_of_one_repository_are_announced_once_with_their_sizes(two, tree, capsys):
    parts = [Reads(UNET), Reads(CONFIG, UNET), Reads(UNET, weights="someone/other")]
    prepare(parts)
    said = capsys.readouterr().err.splitlines()
    announced = [line for line in said if line.startswith("its: downloading")]
    large = (tree / UNET).stat().st_size
    assert announced == [
        f"its: downloading {REPOSITORY} at aaaaaaa: 1 file, {size(large)}",  # the config is already downloaded
        f"its: downloading someone/other at bbbbbbb: 1 file, {size(large)}",
    ]
    assert any(f"{size(2 * large)} in total" in line for line in said)
    two.forget()
    prepare(parts)
    prepare([Reads(UNET), Reads(CONFIG)])
    assert "downloading" not in capsys.readouterr().err
    assert not two.requests


@pytest.mark.parametrize("variable", ["LOCAL_RANK", "SLURM_LOCALID"])
def test_one_process_of_a_machine_announces(served, monkeypatch, capsys, variable):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setenv(variable, "1")
    prepare([Reads(UNET)])
    assert "its: downloading" not in capsys.readouterr().err
    assert served.served


@pytest.mark.parametrize("missing", [Reads("nothing.json"), Reads(UNET, weights="nobody/nothing")])
def test_every_component_is_found_before_anything_large_is_downloaded(served, missing):
    with pytest.raises(WeightsNotFound):
        prepare([Reads(UNET), missing])
    assert not served.served


def test_too_little_room_is_seen_before_anything_is_downloaded(served, tree, monkeypatch):
    large = (tree / UNET).stat().st_size

    def free(count):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, count))

    free(MARGIN + large - 1)
    wanted = Reads(UNET).find()
    for attempt in (lambda: download(wanted), lambda: check_disk_space(wanted), lambda: prepare([Reads(UNET)])):
        with pytest.raises(UserError, match="free some space, set HF_HOME") as error:
            attempt()
        assert size(large) in str(error.value)
    assert not served.served
    free(MARGIN + large)
    assert check_disk_space(wanted) == large
    download(wanted)
    assert set(served.served) == {(REPOSITORY, UNET)}


def test_the_first_process_of_a_machine_alone_checks_the_disk(served, monkeypatch):
    """The first process may already have downloaded files when the second one checks."""
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 0, 0))
    prepare([Reads(UNET)])
    assert set(served.served) == {(REPOSITORY, UNET)}


def test_without_downloads_neither_disk_nor_user_is_asked(monkeypatch, capsys, tree):
    monkeypatch.delattr(shutil, "disk_usage")
    prepare([Reads(UNET, weights=str(tree)), Reads(SCHEDULE, weights=str(tree))])
    download([])
    assert capsys.readouterr().err == ""


def fails_after_the_listing(monkeypatch, error):
    def hf_hub_download(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.hf_hub_download", hf_hub_download)


def test_a_download_that_fails_after_the_listing_is_no_missing_weights(served, monkeypatch):
    """No fallback hides the error, and the hub is not marked as unreachable."""
    part = Reads(UNET, CONFIG)
    part.find()
    fails_after_the_listing(monkeypatch, OSError("Consistency check failed"))
    with pytest.raises(UserError, match=r"someone/model.*same command"):
        prepare([part])
    assert hub_of_its._unreachable == {}


def test_a_damaged_header_on_the_hub_is_no_silent_hub(served, monkeypatch):
    from huggingface_hub.errors import SafetensorsParsingError

    def damaged(*_, **__):
        raise SafetensorsParsingError("no header")

    monkeypatch.setattr("huggingface_hub.HfApi.parse_safetensors_file_metadata", damaged)
    with pytest.raises(UserError, match=r"someone/model has a damaged safetensors file"):
        list_repository(REPOSITORY, None, name=REPOSITORY, checkpoint=None).shapes(UNET)
    assert hub_of_its._unreachable == {}
