"""The hub of the tests, as `huggingface_hub` sees it, and the models that it serves."""

import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import hub_trees
import pytest
import torch
from httpx2 import TimeoutException
from huggingface_hub import (
    HfApi,
    auth_check,
    constants,
    hf_hub_download,
    list_repo_tree,
    model_info,
    parse_safetensors_file_metadata,
    snapshot_download,
)
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import get_session
from loopback_hub import Hub
from safetensors.torch import load_file, save_file

FIRST, SECOND = "a" * 40, "b" * 40
REPO = "someone/model"


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with Hub() as hub:
        hub.connect(monkeypatch, tmp_path / "cache")
        yield hub


@pytest.fixture
def served(hub, tmp_path):
    """`REPO` with `.bin` weights on main and safetensors in a pull request."""
    first, second = tmp_path / "first", tmp_path / "second"
    (first / "unet").mkdir(parents=True)
    (first / "config.json").write_text('{"size": 1}')
    (first / "unet" / "weights.bin").write_bytes(bytes(range(256)) * 10)
    (second / "unet").mkdir(parents=True)
    save_file({"w": torch.ones(3)}, second / "unet" / "weights.safetensors")
    hub.add(REPO, first, revision=FIRST)
    hub.add(REPO, second, revision=SECOND, refs=("refs/pr/11",))
    return hub


def files_of(folder):
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


def test_a_model_is_described(served):
    info = HfApi(endpoint=served.endpoint).model_info(REPO, files_metadata=True)
    assert (info.id, info.sha, info.gated, info.private) == (REPO, FIRST, False, False)
    small, large = info.siblings
    assert (small.rfilename, small.size, small.lfs) == ("config.json", 11, None)
    assert small.blob_id == hashlib.sha1(b'blob 11\0{"size": 1}').hexdigest()
    assert (large.rfilename, large.size) == ("unet/weights.bin", 2560)
    assert large.lfs.sha256 == hashlib.sha256(bytes(range(256)) * 10).hexdigest()
    assert [sibling.size for sibling in model_info(REPO).siblings] == [None, None]
    assert model_info(REPO, revision="refs/pr/11").sha == model_info(REPO, revision=SECOND).sha == SECOND
    assert not served.served


def test_folders_are_listed(served):
    assert [entry.path for entry in list_repo_tree(REPO)] == ["config.json", "unet"]
    entries = list(list_repo_tree(REPO, recursive=True, expand=True))
    assert [entry.path for entry in entries] == ["config.json", "unet", "unet/weights.bin"]
    assert entries[-1].lfs.size == 2560
    assert entries[-1].last_commit.oid == FIRST
    (file,) = list_repo_tree(REPO, "unet", revision="refs/pr/11")
    assert isinstance(file, RepoFile)
    with pytest.raises(RemoteEntryNotFoundError):
        list(list_repo_tree(REPO, "vae"))


def test_snapshots_are_downloaded(served, tmp_path):
    folder = Path(snapshot_download(REPO, allow_patterns=["*.json"]))
    assert folder == tmp_path / "cache" / "models--someone--model" / "snapshots" / FIRST
    assert files_of(folder) == ["config.json"]
    assert served.served == {(REPO, "config.json"): 11}
    assert files_of(snapshot_download(REPO)) == ["config.json", "unet/weights.bin"]
    assert served.served == {(REPO, "config.json"): 11, (REPO, "unet/weights.bin"): 2560}
    assert ("HEAD", f"/{REPO}/resolve/{FIRST}/unet/weights.bin") in served.requests
    served.forget()
    assert not served.requests
    assert files_of(snapshot_download(REPO, revision="refs/pr/11")) == ["unet/weights.safetensors"]
    assert Path(hf_hub_download(REPO, "unet/weights.bin", revision=FIRST)).read_bytes() == bytes(range(256)) * 10
    assert ("GET", f"/api/models/{REPO}/revision/refs/pr/11") in served.requests
    assert (REPO, "unet/weights.bin") not in served.served  # was in the cache


def test_a_cached_snapshot_needs_no_hub(served, monkeypatch):
    folder = snapshot_download(REPO)
    served.forget()
    assert snapshot_download(REPO, local_files_only=True) == folder
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert snapshot_download(REPO) == folder
    with pytest.raises(LocalEntryNotFoundError):
        snapshot_download("someone/other")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert not served.requests
    served.close()  # connections are refused
    assert snapshot_download(REPO) == folder


def test_ranges_of_bytes_are_served(served):
    metadata = parse_safetensors_file_metadata(REPO, "unet/weights.safetensors", revision="refs/pr/11")
    assert metadata.tensors["w"].shape == [3]
    url = f"{served.endpoint}/{REPO}/resolve/main/unet/weights.bin"

    def fetch(requested):
        return get_session().get(url, headers={"Range": requested})

    assert fetch("bytes=256-259").content == bytes(range(4))
    assert fetch("bytes=-2").content == b"\xfe\xff"
    assert fetch("bytes=2558-").headers["Content-Range"] == "bytes 2558-2559/2560"
    assert fetch("bytes=2560-").status_code == 416
    assert served.served[REPO, "unet/weights.bin"] == 8


def test_missing_entries_are_named(served):
    with pytest.raises(RepositoryNotFoundError) as raised:
        snapshot_download("someone/other")
    assert raised.value.response.status_code == 401
    with pytest.raises(RepositoryNotFoundError) as raised:
        model_info("someone/other", token="any")
    assert raised.value.response.status_code == 404
    with pytest.raises(RevisionNotFoundError):
        snapshot_download(REPO, revision="c" * 7)
    with pytest.raises(RevisionNotFoundError):
        model_info(REPO, revision="refs/pr/12")
    with pytest.raises(RemoteEntryNotFoundError):
        hf_hub_download(REPO, "vae/config.json")
    with pytest.raises(ValueError, match=r"'abc', expected a commit hash"):
        served.add(REPO, Path(), revision="abc")


def test_a_gated_repository_needs_an_accepted_token(hub, tmp_path, monkeypatch):
    (tmp_path / "gated").mkdir()
    (tmp_path / "gated" / "config.json").write_text("{}")
    hub.add("owner/gated", tmp_path / "gated", gated=True)
    hub.token = "accepted"
    info = model_info("owner/gated")
    assert (info.gated, [sibling.rfilename for sibling in info.siblings]) == ("auto", ["config.json"])
    for token, status in ((False, 401), ("other", 403)):
        for attempt in (hf_hub_download, lambda repo, _, token: auth_check(repo, token=token)):
            with pytest.raises(GatedRepoError, match="restricted") as raised:
                attempt("owner/gated", "config.json", token=token)
            assert raised.value.response.status_code == status
    monkeypatch.setenv("HF_TOKEN", "accepted")
    auth_check("owner/gated")
    assert files_of(snapshot_download("owner/gated")) == ["config.json"]


def test_a_private_repository_is_hidden(hub, tmp_path):
    hub.add("owner/private", tmp_path / "cache", private=True)
    hub.token = "accepted"
    with pytest.raises(RepositoryNotFoundError):
        model_info("owner/private")
    assert model_info("owner/private", token="accepted").private


def test_a_slow_hub_makes_clients_give_up(served):
    cached = hf_hub_download(REPO, "config.json")
    served.delay = 5
    start = time.monotonic()
    with pytest.raises(TimeoutException):
        model_info(REPO, timeout=0.1)
    assert hf_hub_download(REPO, "config.json", etag_timeout=0.1) == cached
    served.close()  # ends the waits
    assert time.monotonic() - start < 3


def test_a_new_process_is_pointed_to_the_hub(served, tmp_path):
    code = f"import huggingface_hub as h; print(h.snapshot_download('{REPO}'), h.get_token())"
    environment = os.environ | served.environment(tmp_path / "own")
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    folder = tmp_path / "own" / "models--someone--model" / "snapshots" / FIRST
    assert done.stdout.split() == [str(folder), "None"]
    assert files_of(folder) == ["config.json", "unet/weights.bin"]


def test_the_process_is_left_as_it_was(tmp_path):
    names = ("ENDPOINT", "HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_HUB_OFFLINE")
    before = [getattr(constants, name) for name in names], os.environ.copy(), HfApi().endpoint
    with pytest.MonkeyPatch.context() as monkeypatch, Hub() as hub:
        hub.connect(monkeypatch, tmp_path)
        assert HfApi().endpoint == hub.endpoint
    assert ([getattr(constants, name) for name in names], os.environ.copy(), HfApi().endpoint) == before


@pytest.fixture
def real(hub, tmp_path_factory):
    hub_trees.everything(hub, tmp_path_factory.getbasetemp() / "real-models")
    return hub


def test_all_real_repositories_are_served(real):
    for (repo_id, ref), commit in hub_trees.COMMITS.items():
        info = model_info(repo_id, revision=commit if ref == "safetensors" else ref)
        assert info.sha == commit
        assert info.gated == ("auto" if repo_id.startswith("DeepFloyd/") else False)
        names = [sibling.rfilename for sibling in info.siblings]
        has_safetensors = any(name.endswith(".safetensors") and "watermarker" not in name for name in names)
        only_bin = [hub_trees.AUFFUSION, hub_trees.RIFFUSION, hub_trees.CLIP, hub_trees.CLAP]
        assert has_safetensors == (ref != "main" or repo_id not in only_bin)
    for repo_id in ("auffusion/auffusion-full", "auffusion/auffusion"):
        names = [sibling.rfilename for sibling in model_info(repo_id).siblings]
        assert "text_encoder_0/pytorch_model.bin" in names
        assert not any(name.startswith("text_encoder/") for name in names)
    assert not real.served


def test_weights_have_the_names_and_types_of_the_real_ones(real):
    sd = Path(snapshot_download(hub_trees.STABLE_DIFFUSION))
    vae = load_file(sd / "vae" / "diffusion_pytorch_model.fp16.safetensors")
    assert vae["decoder.mid_block.attentions.0.proj_attn.weight"].dtype == torch.float16
    text = load_file(sd / "text_encoder" / "model.safetensors")
    assert text["text_model.embeddings.position_ids"].shape == (1, 77)
    assert all(name.startswith("text_model.") for name in text)
    assert "prediction_type" not in json.loads((sd / "scheduler" / "scheduler_config.json").read_text())

    auffusion = Path(snapshot_download(hub_trees.AUFFUSION))
    pickled = torch.load(auffusion / "vae" / "diffusion_pytorch_model.bin", weights_only=True)
    whole = load_file(sd / "vae" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(pickled[name], tensor) for name, tensor in whole.items())
    unet = torch.load(auffusion / "unet" / "diffusion_pytorch_model.bin", weights_only=True)
    other = load_file(sd / "unet" / "diffusion_pytorch_model.safetensors")
    assert unet.keys() == other.keys()
    assert not torch.equal(unet["conv_in.weight"], other["conv_in.weight"])
    vocoder = torch.load(auffusion / "vocoder" / "vocoder.pt", weights_only=True)
    assert vocoder["generator"]["conv_pre.weight_v"].shape == (32, 256, 7)


def test_the_libraries_read_the_models(real):
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import (
        AutoTokenizer,
        ClapModel,
        ClapProcessor,
        CLIPModel,
        CLIPProcessor,
        CLIPTextModel,
        T5EncoderModel,
    )

    real.token = "accepted"
    sd = snapshot_download(hub_trees.STABLE_DIFFUSION, allow_patterns=["*/*.json", "*/*.txt", "*.fp16.safetensors"])
    pull = snapshot_download(hub_trees.RIFFUSION, revision="refs/pr/11", ignore_patterns=["*.bin", "*.ckpt"])
    for folder, variant in ((sd, "fp16"), (pull, None)):
        for kind, name in ((UNet2DConditionModel, "unet"), (AutoencoderKL, "vae"), (CLIPTextModel, "text_encoder")):
            model, report = kind.from_pretrained(folder, subfolder=name, variant=variant, output_loading_info=True)
            assert not report["missing_keys"]
            assert name != "vae" or model.config.scaling_factor == 0.18215
    for folder in (snapshot_download(hub_trees.CLIP), snapshot_download(hub_trees.CLIP, revision="refs/pr/10")):
        _, report = CLIPModel.from_pretrained(folder, output_loading_info=True)
        assert not report["missing_keys"]
        assert CLIPProcessor.from_pretrained(folder).image_processor.crop_size["height"] == 32
    clap = snapshot_download(hub_trees.CLAP, revision=hub_trees.COMMITS[hub_trees.CLAP, "safetensors"])
    assert not ClapModel.from_pretrained(clap, output_loading_info=True)[1]["missing_keys"]
    assert ClapProcessor.from_pretrained(clap)
    for repo_id in (hub_trees.IF_1, hub_trees.IF_2):
        folder = snapshot_download(repo_id, token="accepted")
        UNet2DConditionModel.from_pretrained(folder, subfolder="unet", variant="fp16")
        _, report = T5EncoderModel.from_pretrained(
            folder, subfolder="text_encoder", variant="fp16", output_loading_info=True
        )
        assert not report["missing_keys"]
        tokens = AutoTokenizer.from_pretrained(folder, subfolder="tokenizer")("a painting of dog")["input_ids"]
        assert len(tokens) == 5
