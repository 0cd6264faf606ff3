"""Models of other architectures are refused by their configurations, before weights are read."""

import json
import shutil

import hub_trees
import pytest

from its.errors import UserError
from its_plugins.codecs.autoencoder_kl import AutoencoderKLCodec
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.pixel_diffusion import PixelDiffusion
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.experts.stable_diffusion_configs import check_text_encoder, check_unet, check_vae, latent_space
from its_plugins.random_weights import stable_diffusion as random_weights

WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt")
# Keys of the real files that differ from Stable Diffusion v1.
SD2 = {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
SDXL = {"cross_attention_dim": 2048, "addition_embed_type": "text_time", "projection_class_embeddings_input_dim": 2816}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder with invalid weights files, which must not be read."""
    folder = hub_trees.auffusion(tmp_path_factory.mktemp("model") / "auffusion", safetensors=True)
    for path in folder.rglob("*"):
        if path.suffix in WEIGHTS:
            path.write_bytes(hub_trees.UNUSED)
    return folder


@pytest.fixture
def edited(model, tmp_path):
    """Function that writes a copy with other settings in some `config.json`, and returns the folder."""

    def write(**changes):
        folder = shutil.copytree(model, tmp_path / "edited")
        for part, settings in changes.items():
            path = folder / part / "config.json"
            path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        return folder

    return write


REFUSED = [
    ({"unet": {"in_channels": 9}}, ["unet has 9 input channels (an inpainting model), expected 4"]),
    ({"unet": {"in_channels": 8}}, ["unet has 8 input channels (an InstructPix2Pix model), expected 4"]),
    ({"unet": {"in_channels": 5}}, ["unet has 5 input channels (a depth-to-image model), expected 4"]),
    ({"unet": {"out_channels": 8}}, ["unet has 8 output channels, expected 4"]),
    (
        {"unet": SD2, "text_encoder": {"hidden_size": 1024}},
        ["cross-attention of width 1024 (Stable Diffusion v2)", "width 768"],
    ),
    ({"unet": SDXL}, ["text_time (Stable Diffusion XL)"]),
    ({"unet": {"cross_attention_dim": 2048}}, ["cross-attention of width 2048 (Stable Diffusion XL)"]),
    ({"unet": {"_class_name": "UNet3DConditionModel"}}, ["class UNet3DConditionModel, expected UNet2DConditionModel"]),
    ({"unet": {"class_embed_type": "identity"}}, ["unet has class_embed_type"]),
    ({"unet": {"dual_cross_attention": True}}, ["unet has two cross-attentions in a row"]),
    ({"text_encoder": {"hidden_size": 32}}, ["text_encoder has width 32, but the UNet expects 16"]),
    ({"text_encoder": {"model_type": "t5"}}, ["text_encoder is of type t5, expected clip_text_model"]),
    ({"vae": {"shift_factor": 0.1159}}, ["vae has shift_factor"]),
    ({"vae": {"latents_mean": [0.1] * 4}}, ["vae has latents_mean"]),
    ({"vae": {"_class_name": "AsymmetricAutoencoderKL"}}, ["AsymmetricAutoencoderKL, expected AutoencoderKL"]),
    ({"vae": {"latent_channels": 16}}, ["vae has 16 latent channels, but the UNet has 4"]),
]


@pytest.mark.parametrize(("changes", "parts"), REFUSED, ids=lambda value: value[0][:40] if type(value) is list else "")
def test_another_kind_of_model_is_refused_and_its_weights_are_not_read(edited, changes, parts):
    folder = edited(**changes)
    with pytest.raises(UserError) as error:
        StableDiffusion(weights=str(folder)).find()
    for part in (str(folder), *parts):
        assert part in str(error.value)
    assert "Use " in str(error.value)
    assert "more than tensors" not in str(error.value)


@pytest.mark.parametrize("changes", [change for change, _ in REFUSED if list(change) == ["vae"]][:3])
def test_another_autoencoder_is_refused(edited, changes):
    with pytest.raises(UserError, match="vae/config.json"):
        AutoencoderKLCodec(weights=str(edited(**changes))).find()


def test_the_unchanged_folder_is_accepted(model, tmp_path):
    """Otherwise the tests above are void: here, only the contents of the weights files are invalid."""
    with pytest.raises(UserError, match=r"is a damaged safetensors file"):
        StableDiffusion(weights=str(model)).find()
    real = random_weights.stable_diffusion(tmp_path / "real")
    assert StableDiffusion(weights=str(real)).find() == []


def test_an_adapter_model_of_auffusion_is_refused_with_the_one_to_take(tmp_path):
    folder = hub_trees.auffusion_adapter(tmp_path / "adapter")
    for path in folder.rglob("*"):
        if path.suffix in (*WEIGHTS, ".json"):
            path.write_bytes(hub_trees.UNUSED)  # recognised by file names alone
    with pytest.raises(UserError, match=r"adapter model.*auffusion/auffusion-full-no-adapter") as error:
        Auffusion(weights=str(folder)).find()
    assert str(folder) in str(error.value)


def test_a_model_of_pixels_is_no_latent_one_and_the_reverse(model, tmp_path):
    pixels = random_weights.stable_diffusion(tmp_path, channels=3)
    with pytest.raises(UserError, match="unet has 3 input channels, expected 4"):
        StableDiffusion(weights=str(pixels)).find()
    shutil.copy(pixels / "scheduler" / "scheduler_config.json", pixels / "unet")
    PixelDiffusion(weights=str(pixels)).find()
    path = pixels / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_channels": 4, "out_channels": 4}))
    with pytest.raises(UserError, match="unet has 4 input channels, expected 3"):
        PixelDiffusion(weights=str(pixels)).find()


def test_old_files_that_leave_things_out_are_accepted():
    check_unet({"cross_attention_dim": 768}, where="x")
    check_text_encoder({"hidden_size": 768}, {"cross_attention_dim": 768}, where="x")
    check_vae({}, where="x")
    check_vae({"shift_factor": None, "latents_mean": None}, where="x")


def test_latent_spaces_are_equal_where_channels_scale_and_size_are():
    old, new = {"block_out_channels": [1] * 4}, {"block_out_channels": [2] * 4, "scaling_factor": 0.18215}
    assert latent_space(old) == latent_space(new)
    for other in ({"scaling_factor": 0.13025}, {"latent_channels": 16}, {"block_out_channels": [1] * 3}):
        assert latent_space(old | other) != latent_space(old)
