"""Wrong input: one message, exit status 2, nothing is downloaded or made."""

import json
from types import SimpleNamespace

import hub_trees
import pytest
import torch
from hub_runs import copied
from safetensors.torch import save_file

VISUAL, AUDIO = "--model.experts.visual.init_args", "--model.experts.audio.init_args"
SD = hub_trees.STABLE_DIFFUSION
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 3438167534\n"


@pytest.fixture
def folder(fresh, tmp_path):
    """A local copy of Stable Diffusion."""
    return copied(fresh.trees / SD / "main", tmp_path / "sd")


def test_adapter_model_of_auffusion(fresh):
    message = fresh.refused(f"{AUDIO}.weights=auffusion/auffusion-full")
    assert message.startswith("model.experts.audio: auffusion/auffusion-full is an adapter model of Auffusion")
    assert "auffusion/auffusion-full-no-adapter" in message


@pytest.mark.parametrize(
    ("edited", "expected"),
    [
        ({"unet": {"in_channels": 9}}, "9 input channels (an inpainting model), expected 4"),
        ({"unet": {"cross_attention_dim": 1024}}, "cross-attention of width 1024 (Stable Diffusion v2)"),
        ({"unet": {"addition_embed_type": "text_time"}}, "embeddings of text_time (Stable Diffusion XL)"),
        ({"text_encoder": {"hidden_size": 32}}, "text_encoder has width 32, but the UNet expects 16"),
        ({"vae": {"shift_factor": 0.1}}, "shift_factor"),
    ],
    ids=["inpainting", "SD 2", "SDXL", "text encoder", "VAE"],
)
@pytest.mark.parametrize("local", [False, True], ids=["hub", "folder"])
def test_other_models(fresh, edited, expected, local):
    served = fresh.serve("someone/other", **edited)
    weights = served if local else "someone/other"
    message = fresh.refused(f"{VISUAL}.weights={weights}")
    assert message.startswith(f"model.experts.visual: {weights}: ")
    assert expected in message


@pytest.mark.parametrize("file", ["unet/config.json", "unet/diffusion_pytorch_model.safetensors"])
def test_git_lfs_pointers(fresh, folder, file):
    (folder / file).write_text(POINTER)
    message = fresh.refused(f"{VISUAL}.weights={folder}")
    assert f"{folder / file} is a Git LFS pointer, not the file: run `git lfs pull` in that folder" in message


@pytest.mark.parametrize("local", [False, True], ids=["hub", "folder"])
def test_missing_shard(fresh, folder, local):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    index = {"weight_map": {"a": "diffusion-1.safetensors", "b": "diffusion-2.safetensors"}}
    (folder / "unet" / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    save_file({"a": torch.zeros(1)}, folder / "unet" / "diffusion-1.safetensors")
    fresh.hub.add("someone/sharded", folder)
    weights = folder if local else "someone/sharded"
    message = fresh.refused(f"{VISUAL}.weights={weights}")
    assert f"{weights} lacks unet/diffusion-2.safetensors" in message
    assert "unet/diffusion_pytorch_model.safetensors.index.json lists" in message


def test_a_file_where_a_folder_is_expected(fresh, tmp_path):
    (tmp_path / "vocoder.pt").write_bytes(b"")
    message = fresh.refused(f"--model.vocoder.init_args.weights={tmp_path}/vocoder.pt")
    assert message.startswith("model.vocoder: ")
    assert "vocoder.pt is a file, but HiFiGAN reads a folder" in message


def test_a_file_that_is_no_checkpoint(fresh, tmp_path):
    (tmp_path / "prompts.txt").write_text("a painting")
    message = fresh.refused(f"{VISUAL}.weights={tmp_path}/prompts.txt")
    assert "prompts.txt" in message
    assert ".safetensors" in message


def test_a_folder_without_a_lora(fresh, tmp_path):
    (tmp_path / "loras").mkdir()
    message = fresh.refused(f"{VISUAL}.lora=[{{weights: {tmp_path}/loras}}]")
    assert message.startswith("model.experts.visual: ")
    assert "loras lacks pytorch_lora_weights.safetensors" in message


def test_a_folder_where_a_checkpoint_is_expected(fresh, tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    message = fresh.refused(f"{VISUAL}.weights={tmp_path}/model.safetensors")
    assert "model.safetensors lacks unet/config.json" in message


def test_a_path_that_does_not_exist(fresh, tmp_path):
    message = fresh.refused(f"{VISUAL}.weights={tmp_path}/nothing.safetensors")
    assert "nothing.safetensors is neither a folder nor a file on this machine" in message


@pytest.mark.parametrize("local", [False, True], ids=["hub", "folder"])
def test_lora_of_another_architecture(fresh, tmp_path, local):
    (tmp_path / "loras").mkdir()
    layer = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
    tensors = {f"{layer}.lora_A.weight": torch.zeros(4, 2048), f"{layer}.lora_B.weight": torch.zeros(16, 4)}
    save_file(tensors, tmp_path / "loras" / "pytorch_lora_weights.safetensors")
    fresh.hub.add("someone/lora", tmp_path / "loras")
    weights = tmp_path / "loras" if local else "someone/lora"
    message = fresh.predict(f"{VISUAL}.lora=[{{weights: {weights}}}]").message
    assert f"lora: {weights} is a LoRA for Stable Diffusion XL (cross-attention width 2048)" in message
    assert fresh.weights_served() == []  # of a LoRA on the hub, only the header is read
    assert not fresh.run.exists()


def test_lora_with_an_unknown_key(fresh):
    message = fresh.refused(f"{VISUAL}.lora=[{{weights: a.safetensors, strength: 0.5}}]")
    assert "strength" in message
    assert "expected {weights: FILE_OR_HUB_ID, scale: 0.8}" in message


def test_a_gated_repository_without_login(fresh):
    message = fresh.refused(config="castle_bell.yaml+colorize.yaml")
    assert message.startswith("model.colorizer: DeepFloyd/IF-I-M-v1.0 is gated. ")
    assert "https://huggingface.co/DeepFloyd/IF-I-XL-v1.0, then log in with `hf auth login`, or set HF_TOKEN" in message


def test_a_private_repository_without_login(fresh, folder):
    fresh.hub.add("someone/private", folder, private=True)
    message = fresh.refused(f"{VISUAL}.weights=someone/private")
    assert message.startswith("model.experts.visual: someone/private is not on this machine, and the hub has no such")
    assert "if it is private, log in with `hf auth login`, or set HF_TOKEN" in message


def test_an_unknown_repository(fresh):
    message = fresh.refused(f"{AUDIO}.weights=someone/nothing")
    assert message.startswith("model.experts.audio: someone/nothing is not on this machine, and the hub has no such")
    assert "Check the name" in message


def test_an_unknown_revision(fresh):
    message = fresh.refused(f"{AUDIO}.revision=v9")
    assert message.startswith(f"model.experts.audio: {hub_trees.AUFFUSION} has no revision v9 on the hub")


def test_an_unknown_variant(fresh):
    message = fresh.refused(f"{AUDIO}.variant=fp16")
    assert f"{hub_trees.AUFFUSION} has no fp16 weights in unet" in message
    assert "Set variant to null" in message


def test_too_little_room_on_the_disk(fresh, monkeypatch):
    monkeypatch.setattr(
        "its.weights.downloads.shutil.disk_usage", lambda path: SimpleNamespace(free=65 * 2**20, total=0, used=0)
    )
    message = fresh.refused()
    assert message.startswith("the weights to download take 2.97 MB, but ")
    assert (
        "68.2 MB free: free some space, set HF_HOME to a folder on another disk, or use local folders of weights"
        in message
    )


def test_a_scheduler_of_another_noise_schedule(fresh):
    message = fresh.refused("--model.scheduler.init_args.beta_schedule=linear")
    assert message.startswith("model.scheduler DDIM has another noise schedule than model.experts.visual was trained")


def test_an_expert_of_another_noise_schedule(fresh, folder):
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rescale_betas_zero_snr": True}))
    message = fresh.refused(f"{VISUAL}.weights={folder}")
    assert "rescale_betas_zero_snr" in message
