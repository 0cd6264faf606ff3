"""Weights that don't match their configuration are refused by `find`, or right after the download."""

import json
import shutil

import pytest
import torch
from loopback_hub import Hub
from safetensors.torch import load_file, save_file
from weight_files import save_pickle

from its.errors import UserError
from its.weights import hub as hub_of_its
from its.weights import prepare
from its_plugins.codecs.autoencoder_kl import AutoencoderKLCodec
from its_plugins.experts.deepfloyd_if import DeepFloydIF
from its_plugins.experts.deepfloyd_if_upscaler import DeepFloydIFUpscaler
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.random_weights import deepfloyd_if as random_weights_if
from its_plugins.random_weights import dual_encoders
from its_plugins.random_weights import stable_diffusion as random_weights
from its_plugins.scorers.clap_scorer import CLAPScorer
from its_plugins.scorers.clip_scorer import CLIPScorer
from its_plugins.vocoders.hifi_gan import HiFiGAN

SMALL_VAE = {"layers_per_block": 1, "norm_num_groups": 2, "block_out_channels": [4, 4, 4, 4]}
SD = random_weights.stable_diffusion
IF, UPSCALER = random_weights_if.deepfloyd_if, random_weights_if.deepfloyd_if_upscaler
EDITS = {
    "unet": (StableDiffusion, SD, "unet/config.json", {"block_out_channels": [8, 16]}),
    "text": (StableDiffusion, SD, "text_encoder/config.json", {"intermediate_size": 24}),
    "vae": (AutoencoderKLCodec, SD, "vae/config.json", SMALL_VAE),
    "IF": (DeepFloydIF, IF, "text_encoder/config.json", {"d_ff": 20}),
    "upscaler": (DeepFloydIFUpscaler, UPSCALER, "unet/config.json", {"encoder_hid_dim": 12}),
    "CLIP": (CLIPScorer, dual_encoders.clip, "config.json", {"projection_dim": 6}),
    "CLAP": (CLAPScorer, dual_encoders.clap, "config.json", {"projection_dim": 6}),
}


def edited(make, folder, file, change):
    """Write weights with another configuration; return the component's arguments for them."""
    made = make(folder)
    path = made / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    return {"weights": str(made)} | ({"variant": None} if make in (IF, UPSCALER) else {})


@pytest.mark.parametrize("name", EDITS)
def test_a_configuration_of_another_model_is_refused(tmp_path, name):
    cls, make, file, change = EDITS[name]
    with pytest.raises(UserError, match=rf"has shape \(.*\), but {file} requires \(.*get both from one source"):
        cls(**edited(make, tmp_path / "weights", file, change)).find()


def test_the_example_of_each_passes(tmp_path):
    for number, cls in enumerate({cls for cls, *_ in EDITS.values()} - {AutoencoderKLCodec}):
        cls.example(tmp_path / str(number)).find()


@pytest.fixture
def served(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_of_its, "_unreachable", {})
    hub_of_its._listing.cache_clear()
    with Hub() as hub:
        hub.connect(monkeypatch, tmp_path / "cache")
        yield hub
    hub_of_its._listing.cache_clear()


def test_only_headers_of_safetensors_are_downloaded(served, tmp_path):
    cls, make, file, change = EDITS["unet"]
    edited(make, folder := tmp_path / "weights", file, change)
    served.add("someone/model", folder)
    with pytest.raises(UserError, match="has shape"):
        cls(weights="someone/model").find()
    assert not [name for _, name in served.served if name.endswith(".safetensors")]


def test_a_pickle_on_the_hub_is_refused_after_its_download(served, tmp_path):
    cls, make, file, change = EDITS["unet"]
    edited(make, folder := tmp_path / "weights", file, change)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    save_pickle(load_file(weights), weights.with_suffix(".bin"))
    weights.unlink()
    served.add("someone/model", folder)
    expert = cls(weights="someone/model")
    expert.find()
    with pytest.raises(UserError, match=r"in unet/diffusion_pytorch_model\.bin has shape"):
        prepare([expert])


def test_a_vocoder_of_another_configuration_is_refused(tmp_path):
    vocoder = HiFiGAN.example(tmp_path)
    path = tmp_path / "vocoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"upsample_initial_channel": 16}))
    with pytest.raises(UserError, match=r"vocoder\.pt does not match .*config\.json"):
        vocoder.find()


@pytest.mark.parametrize(
    ("cls", "make", "expected"), [(CLIPScorer, dual_encoders.clap, "clip"), (CLAPScorer, dual_encoders.clip, "clap")]
)
def test_a_scorer_of_another_kind_is_refused(tmp_path, cls, make, expected):
    with pytest.raises(UserError, match=f"expected {expected}"):
        cls(weights=str(make(tmp_path))).find()


def test_provenance_does_not_depend_on_the_choice_of_variant(served, tmp_path):
    folder = shutil.copytree(random_weights.stable_diffusion(tmp_path / "made"), tmp_path / "weights")
    for path in [*folder.rglob("*.safetensors")]:
        path.rename(path.with_suffix(".fp16.safetensors"))
    served.add("someone/model", folder)
    experts = [StableDiffusion(weights="someone/model", variant=variant) for variant in (None, "fp16")]
    for expert in experts:
        expert.find()
    assert experts[0].provenance() == experts[1].provenance()


def test_tensors_of_other_models_are_ignored(tmp_path):
    folder = random_weights.stable_diffusion(tmp_path / "weights")
    for part, name, extra in (
        ("text_encoder", "model.safetensors", "vision_model.embeddings.position_embedding.weight"),
        ("unet", "diffusion_pytorch_model.safetensors", "model_ema.conv_in.weight"),
    ):
        save_file({**load_file(folder / part / name), extra: torch.ones(3, 5)}, folder / part / name, {"format": "pt"})
    StableDiffusion(weights=str(folder)).find()


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("unet", {"norm_num_groups": 0}),
        ("unet", {"block_out_channels": [-32, 64]}),
        ("text_encoder", {"num_attention_heads": 3}),
        ("text_encoder", {"vocab_size": -1}),
    ],
)
def test_a_configuration_without_a_valid_model_gives_one_message(tmp_path, part, change):
    arguments = edited(random_weights.stable_diffusion, tmp_path / "weights", f"{part}/config.json", change)
    with pytest.raises(UserError, match="configuration has invalid values"):
        StableDiffusion(**arguments).find()
