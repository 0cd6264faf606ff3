"""Tiny random models in the file layouts of the real repositories on the Hugging Face hub.

File names, tensor names and configuration keys are those of the real files, which are older than the installed
libraries. `UNUSED` is the content of files that `its` does not need; reading one of them fails.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from loopback_hub import Hub
from safetensors.torch import load_file, save_file
from sentencepiece import sentencepiece_model_pb2
from torch import Tensor

from its_plugins.random_weights import deepfloyd_if as random_weights_if
from its_plugins.random_weights import dual_encoders as random_towers
from its_plugins.random_weights import stable_diffusion as random_weights
from its_plugins.random_weights.stable_diffusion import write_json
from its_plugins.vocoders.hifi_gan import write_random_checkpoint

UNUSED = b"not needed: this file must not be read\n"

STABLE_DIFFUSION = "stable-diffusion-v1-5/stable-diffusion-v1-5"
AUFFUSION = "auffusion/auffusion-full-no-adapter"
RIFFUSION = "riffusion/riffusion-model-v1"
CLIP = "openai/clip-vit-base-patch16"
CLAP = "laion/clap-htsat-unfused"
SCRIBBLE = "lllyasviel/control_v11p_sd15_scribble"
IF_1 = "DeepFloyd/IF-I-M-v1.0"
IF_2 = "DeepFloyd/IF-II-M-v1.0"

COMMITS = {  # unknown digits are zeros
    (STABLE_DIFFUSION, "main"): "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    (AUFFUSION, "main"): "a75ebf2".ljust(40, "0"),
    (AUFFUSION, "refs/pr/1"): "1".ljust(40, "0"),
    (RIFFUSION, "main"): "2".ljust(40, "0"),
    (RIFFUSION, "refs/pr/11"): "ea2085a79829d34f529dbec1906321335c49195b",
    (CLIP, "main"): "57c216476eefef5ab752ec549e440a49ae4ae5f3",
    (CLIP, "refs/pr/10"): "ebc0097".ljust(40, "0"),
    (CLAP, "main"): "3".ljust(40, "0"),
    (CLAP, "safetensors"): "79b58ed25fc00386262a2bea4b19fd21dc4310a0",  # reachable by its hash only
    (SCRIBBLE, "main"): "6".ljust(40, "0"),
    (IF_1, "main"): "4".ljust(40, "0"),
    (IF_2, "main"): "5".ljust(40, "0"),
}
"""Commit hashes by repository and ref."""

SCHEDULER = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
    "clip_sample": False,
}
"""Noise schedule of Stable Diffusion v1.5. It has no `prediction_type`."""

VOCODER = {
    "resblock": "1",
    "num_gpus": 0,
    "batch_size": 16,
    "learning_rate": 0.0002,
    "adam_b1": 0.8,
    "adam_b2": 0.99,
    "lr_decay": 0.999,
    "seed": 1234,
    "upsample_rates": [5, 4, 4, 2],
    "upsample_kernel_sizes": [11, 8, 8, 4],
    "upsample_initial_channel": 32,  # 512 in reality
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5], [1, 3, 5]],
    "segment_size": 5120,
    "num_mels": 256,
    "num_freq": 2049,
    "n_fft": 2048,
    "hop_size": 160,
    "win_size": 1024,
    "sampling_rate": 16000,
    "fmin": 0,
    "fmax": None,
    "fmax_for_loss": None,
    "num_workers": 4,
    "dist_config": {"dist_backend": "nccl", "dist_url": "tcp://localhost:54321", "world_size": 1},
}
"""Configuration of Auffusion's vocoder."""

# Configuration keys of diffusers 0.6.
COMMON_KEYS = [
    *("_class_name", "act_fn", "block_out_channels", "down_block_types", "in_channels", "layers_per_block"),
    *("norm_num_groups", "out_channels", "sample_size", "up_block_types"),
]
UNET_KEYS = [
    *COMMON_KEYS,
    *("attention_head_dim", "center_input_sample", "cross_attention_dim", "downsample_padding", "flip_sin_to_cos"),
    *("freq_shift", "mid_block_scale_factor", "norm_eps"),
]
VAE_KEYS = [*COMMON_KEYS, "latent_channels"]

SAFETENSORS, FP16, BIN = "safetensors", "fp16.safetensors", "bin"


def stable_diffusion_v15(folder: Path) -> Path:
    """Write Stable Diffusion v1.5: safetensors in float32 and float16; everything else is `UNUSED`."""
    _diffusers_v1(folder, formats=[SAFETENSORS, FP16], seed=0)
    for name in ("v1-5-pruned-emaonly", "v1-5-pruned"):
        _write_unused(folder, f"{name}.ckpt", f"{name}.safetensors")
    _write_unused(
        folder,
        "v1-inference.yaml",
        "text_encoder/pytorch_model.bin",
        "text_encoder/pytorch_model.fp16.bin",
        "vae/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.fp16.bin",
        *(f"unet/diffusion_pytorch_model.{name}" for name in ("bin", "fp16.bin", "non_ema.bin", "non_ema.safetensors")),
        *(f"safety_checker/model.{name}" for name in (SAFETENSORS, FP16)),
        *(f"safety_checker/pytorch_model.{name}" for name in ("bin", "fp16.bin")),
    )
    return folder


def auffusion(folder: Path, *, safetensors: bool = False) -> Path:
    """Write Auffusion without adapter: `.bin` files and the vocoder. VAE and text encoder equal Stable Diffusion's.

    Args:
        folder: destination; created if missing.
        safetensors: whether to add safetensors, as the unmerged conversion does.
    """
    _diffusers_v1(folder, formats=[BIN, SAFETENSORS] if safetensors else [BIN], seed=1)
    write_random_checkpoint(folder / "vocoder", VOCODER)
    return folder


def auffusion_adapter(folder: Path) -> Path:
    """Write Auffusion with an adapter, which `its` does not support: `text_encoder_0` and `condition_adapter_0`."""
    auffusion(folder)
    (folder / "text_encoder").rename(folder / "text_encoder_0")
    for file in (folder / "tokenizer").iterdir():
        file.rename(folder / "text_encoder_0" / file.name)
    (folder / "tokenizer").rmdir()
    names = {"text_encoder_name": "text_encoder_0", "condition_adapter_name": "condition_adapter_0"}
    write_json(folder / "condition_config.json", [names])
    sizes = {"condition_dim": 16, "cross_attention_dim": 16}
    write_json(folder / "condition_adapter_0" / "config.json", sizes)
    _write_unused(folder, "condition_adapter_0/condition_adapter.pt")
    return folder


def riffusion(folder: Path, *, safetensors: bool = False) -> Path:
    """Write Riffusion v1: `.bin` files and a `.ckpt`; safetensors beside them in the pull request."""
    _diffusers_v1(folder, formats=[BIN, SAFETENSORS] if safetensors else [BIN], seed=2)
    _write_unused(folder, "riffusion-model-v1.ckpt", "safety_checker/pytorch_model.bin")
    return folder


def clip(folder: Path, *, safetensors: bool = False) -> Path:
    """Write CLIP: `pytorch_model.bin`; `model.safetensors` beside it in the pull request."""
    random_towers.clip(folder)
    tensors = _take(folder / "model.safetensors")
    for tower in ("text_model", "vision_model"):
        positions = len(tensors[f"{tower}.embeddings.position_embedding.weight"])
        tensors[f"{tower}.embeddings.position_ids"] = torch.arange(positions)[None]
    _save(tensors, folder, "model", [BIN, SAFETENSORS] if safetensors else [BIN])
    config = json.loads((folder / "preprocessor_config.json").read_text())
    old = {"feature_extractor_type": "CLIPFeatureExtractor", "crop_size": 32, "size": 32}
    kept = ("do_center_crop", "do_normalize", "do_resize", "image_mean", "image_std", "resample")
    write_json(folder / "preprocessor_config.json", old | {key: config[key] for key in kept})
    _write_unused(folder, "flax_model.msgpack", "tf_model.h5")
    return folder


def clap(folder: Path, *, safetensors: bool = True) -> Path:
    """Write CLAP: `pytorch_model.bin`, and `model.safetensors` beside it at the commit that has it."""
    random_towers.clap(folder)
    _save(_take(folder / "model.safetensors"), folder, "model", [BIN, SAFETENSORS] if safetensors else [BIN])
    return folder


def scribble(folder: Path) -> Path:
    """Write a control net for outlines: safetensors and `.bin` files in the root, also in half precision."""
    random_weights.control_net(folder)
    config = json.loads((folder / "config.json").read_text())
    write_json(folder / "config.json", config | {"_diffusers_version": "0.16.0.dev0"})
    stem = "diffusion_pytorch_model"
    _save(_take(folder / f"{stem}.safetensors"), folder, stem, [BIN, SAFETENSORS])
    _write_unused(folder, f"{stem}.fp16.bin", f"{stem}.fp16.safetensors", "control_net_scribble.py", "README.md")
    return folder


def deepfloyd_if_1(folder: Path) -> Path:
    """Write stage I of DeepFloyd IF: float16 safetensors, the text encoder in two shards."""
    random_weights_if.deepfloyd_if(folder)
    _finish_if(folder, "IFPipeline")
    return folder


def deepfloyd_if_2(folder: Path) -> Path:
    """Write stage II of DeepFloyd IF, which repeats the text encoder of stage I."""
    random_weights_if.deepfloyd_if(folder)
    random_weights_if.deepfloyd_if_upscaler(folder)
    _finish_if(folder, "IFSuperResolutionPipeline")
    return folder


def everything(hub: Hub, folder: Path) -> None:
    """Serve all repositories under their real names at the hashes of `COMMITS`; those of DeepFloyd IF are gated.

    Args:
        hub: the hub to add them to.
        folder: destination of the models. Models of an earlier call are reused, so tests can share a folder.
    """
    writers: dict[tuple[str, str], Callable[[Path], Path]] = {
        (STABLE_DIFFUSION, "main"): stable_diffusion_v15,
        (AUFFUSION, "main"): auffusion,
        (AUFFUSION, "refs/pr/1"): partial(auffusion, safetensors=True),
        ("auffusion/auffusion-full", "main"): auffusion_adapter,
        ("auffusion/auffusion", "main"): auffusion_adapter,
        (RIFFUSION, "main"): riffusion,
        (RIFFUSION, "refs/pr/11"): partial(riffusion, safetensors=True),
        (CLIP, "main"): clip,
        (CLIP, "refs/pr/10"): partial(clip, safetensors=True),
        (CLAP, "main"): partial(clap, safetensors=False),
        (CLAP, "safetensors"): clap,
        (SCRIBBLE, "main"): scribble,
        (IF_1, "main"): deepfloyd_if_1,
        (IF_2, "main"): deepfloyd_if_2,
    }
    for (repo_id, ref), write in writers.items():
        tree = folder / repo_id / ref
        if not tree.exists():
            shutil.rmtree(tree.with_suffix(".part"), ignore_errors=True)
            write(tree.with_suffix(".part")).rename(tree)
        refs = () if ref == "safetensors" else (ref,)
        gated = repo_id.startswith("DeepFloyd/")
        hub.add(repo_id, tree, revision=COMMITS.get((repo_id, ref)), refs=refs, gated=gated)


def _diffusers_v1(folder: Path, *, formats: Sequence[str], seed: int) -> None:
    """Write a pipeline as diffusers 0.6 did. The seed changes the UNet only."""
    random_weights.stable_diffusion(folder)
    unet = _take(folder / "unet" / "diffusion_pytorch_model.safetensors")
    noise = torch.Generator().manual_seed(seed)
    unet = {name: tensor * (1 + 0.1 * torch.randn(tensor.shape, generator=noise)) for name, tensor in unet.items()}
    _save(unet, folder / "unet", "diffusion_pytorch_model", formats)
    vae = _take(folder / "vae" / "diffusion_pytorch_model.safetensors")
    _save(
        {_former_attention_name(name): tensor for name, tensor in vae.items()},
        folder / "vae",
        "diffusion_pytorch_model",
        formats,
    )
    text = _take(folder / "text_encoder" / "model.safetensors")
    text = {f"text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in text.items()}
    positions = len(text["text_model.embeddings.position_embedding.weight"])
    text["text_model.embeddings.position_ids"] = torch.arange(positions)[None]
    _save(text, folder / "text_encoder", "model", formats)

    for component, keys in (("unet", UNET_KEYS), ("vae", VAE_KEYS)):
        path = folder / component / "config.json"
        config = json.loads(path.read_text())
        write_json(path, {key: config[key] for key in keys} | {"_diffusers_version": "0.6.0"})
    path = folder / "text_encoder" / "config.json"
    config = json.loads(path.read_text())
    del config["dtype"]
    old = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, "torch_dtype": "float32"}
    write_json(path, config | old | {"transformers_version": "4.22.0.dev0"})
    write_json(folder / "scheduler" / "scheduler_config.json", SCHEDULER)
    index = json.loads((folder / "model_index.json").read_text())
    del index["requires_safety_checker"]
    classes: dict[str, Any] = {
        "_diffusers_version": "0.6.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "PNDMScheduler"],
    }
    write_json(folder / "model_index.json", index | classes)
    _write_unused(
        folder,
        ".gitattributes",
        "README.md",
        "feature_extractor/preprocessor_config.json",
        "safety_checker/config.json",
    )


def _former_attention_name(name: str) -> str:
    if ".attentions." in name:
        for new, former in {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}.items():
            name = name.replace(f".{new}.", f".{former}.")
    return name


def _finish_if(folder: Path, pipeline: str) -> None:
    unet = _take(folder / "unet" / "diffusion_pytorch_model.safetensors")
    _save(unet, folder / "unet", "diffusion_pytorch_model", [FP16])
    text = {name: tensor.half() for name, tensor in _take(folder / "text_encoder" / "model.safetensors").items()}
    shards = {name: f"model.fp16-0000{1 + 2 * i // len(text)}-of-00002.safetensors" for i, name in enumerate(text)}
    for shard in sorted(set(shards.values())):
        tensors = {name: tensor for name, tensor in text.items() if shards[name] == shard}
        save_file(tensors, folder / "text_encoder" / shard, metadata={"format": "pt"})
    size = sum(tensor.nbytes for tensor in text.values())
    index = {"metadata": {"total_size": size}, "weight_map": shards}
    write_json(folder / "text_encoder" / "model.safetensors.index.fp16.json", index)
    _write_sentencepiece(folder / "tokenizer")
    write_json(folder / "model_index.json", {"_class_name": pipeline, "_diffusers_version": "0.17.0.dev0"})
    _write_unused(
        folder,
        ".gitattributes",
        "README.md",
        "LICENSE.md",
        "feature_extractor/preprocessor_config.json",
        "safety_checker/config.json",
        "safety_checker/model.fp16.safetensors",
        "watermarker/config.json",
        "watermarker/diffusion_pytorch_model.safetensors",
    )


def _write_sentencepiece(folder: Path) -> None:
    """Replace `tokenizer.json`, which the real repositories don't have, by the same tokens in `spiece.model`."""
    model = sentencepiece_model_pb2.ModelProto()
    trainer = model.trainer_spec
    trainer.model_type, trainer.pad_id, trainer.eos_id, trainer.unk_id, trainer.bos_id = 1, 0, 1, 2, -1
    kinds = {"<pad>": 3, "</s>": 3, "<unk>": 2}  # control, control, unknown; 1 is normal
    for piece, score in json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]:
        model.pieces.add(piece=piece, score=score, type=kinds.get(piece, 1))
    (folder / "tokenizer.json").unlink()
    (folder / "spiece.model").write_bytes(model.SerializeToString())
    special = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    write_json(folder / "special_tokens_map.json", special)
    old = {"extra_ids": 0, "model_max_length": 512, "sp_model_kwargs": {}, "tokenizer_class": "T5Tokenizer"}
    write_json(folder / "tokenizer_config.json", special | old)


def _take(path: Path) -> dict[str, Tensor]:
    """Read a file of weights and delete it."""
    tensors: dict[str, Tensor] = load_file(path)
    path.unlink()
    return tensors


def _save(tensors: dict[str, Tensor], folder: Path, stem: str, formats: Sequence[str]) -> None:
    """Write one state dict in each format under the names that diffusers and transformers give it."""
    for form in formats:
        if form == BIN:
            torch.save(tensors, folder / ("pytorch_model.bin" if stem == "model" else f"{stem}.bin"))
            continue
        half = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
        save_file(half if form == FP16 else tensors, folder / f"{stem}.{form}", metadata={"format": "pt"})


def _write_unused(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(UNUSED)
