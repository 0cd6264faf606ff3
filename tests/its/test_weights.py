import time

import pytest
import torch
from safetensors.torch import save_file

from its import registry, weights
from its.weights import WeightsNotFound, locate


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "unet").mkdir()
    save_file({"x": torch.ones(3)}, tmp_path / "unet" / "model.safetensors")
    (tmp_path / "unet" / "config.json").write_text("{}")
    return tmp_path


FILES = ["unet/config.json", "unet/*.safetensors"]


def test_a_folder_is_found_with_the_files_it_has(folder):
    located = locate(str(folder), files=FILES)
    assert located.folder == folder
    assert located.files == ("unet/config.json", "unet/model.safetensors")


def test_the_digest_follows_content_and_not_place(folder, tmp_path_factory):
    import shutil

    copy = tmp_path_factory.mktemp("x") / "copy"
    shutil.copytree(folder, copy)
    first = locate(str(folder), files=FILES).provenance()
    assert locate(str(copy), files=FILES).provenance()["sha256"] == first["sha256"]
    save_file({"x": torch.zeros(3)}, copy / "unet" / "model.safetensors")
    weights._digest.cache_clear()
    assert locate(str(copy), files=FILES).provenance()["sha256"] != first["sha256"]


def test_missing_files_are_named(folder):
    with pytest.raises(WeightsNotFound, match=r"lacks vae/\*.safetensors \(pickles such as"):
        locate(str(folder), files=["vae/*.safetensors"])


@pytest.mark.parametrize("source", ["/no/such/folder", "./nothing", "~/nothing/here", "just-a-name"])
def test_a_path_that_is_no_folder_is_not_asked_of_the_hub(source):
    with pytest.raises(WeightsNotFound, match="is not a folder; expected a diffusers folder or owner/name"):
        locate(source, files=FILES)


def test_a_pack_is_embedded(folder):
    registry.register_pack(registry.Pack(name="test", folder=folder, config=folder / "c.yaml", summary="-"))
    try:
        record = locate("pack:test", files=FILES).provenance()
        assert record["name"] == "pack:test"
        assert record["embedded"] is True
    finally:
        registry._packs.pop("test")


def test_an_unknown_pack_names_those_there_are():
    with pytest.raises(WeightsNotFound, match="no pack is called maxi; there are: .*mini"):
        locate("pack:maxi", files=FILES)


@pytest.fixture
def no_network(monkeypatch, tmp_path):
    """A hub that accepts connections and never answers, and an empty cache."""
    import socket

    from huggingface_hub import constants

    silent = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    weights.hub_trouble.cache_clear()
    yield monkeypatch
    weights.hub_trouble.cache_clear()
    silent.close()


def test_a_hub_that_does_not_answer_is_given_up_once_and_for_all(no_network):
    no_network.setattr(weights, "NETWORK_PATIENCE", 0.3)
    with pytest.raises(WeightsNotFound, match="someone/model is not on this machine, and .* did not answer|can't be"):
        locate("someone/model", files=FILES)
    begin = time.monotonic()
    with pytest.raises(WeightsNotFound):
        locate("someone/other", files=FILES)
    assert weights.hub_trouble.cache_info().hits >= 1
    assert time.monotonic() - begin < 60  # not a measurement: it must only not hang


def test_offline_mode_is_respected(no_network):
    from huggingface_hub import constants

    no_network.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsNotFound, match="HF_HUB_OFFLINE is set"):
        locate("someone/model", files=FILES)


def test_what_the_cache_has_needs_no_network(no_network, tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "cache" / "models--someone--model" / "snapshots" / commit / "unet"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    save_file({"x": torch.ones(1)}, snapshot / "model.safetensors")
    refs = tmp_path / "cache" / "models--someone--model" / "refs"
    refs.mkdir()
    (refs / "main").write_text(commit)
    located = locate("someone/model", files=FILES)
    assert located.provenance() == {"name": "someone/model", "revision": commit}
