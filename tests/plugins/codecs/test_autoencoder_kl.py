"""AutoencoderKLCodec from a model's folder and from a separate repository."""

import json
import shutil

import hub_trees
import pytest
import torch
from huggingface_hub import constants
from loopback_hub import Hub
from weight_files import save_tensors

from its.errors import UserError
from its.weights import WeightsNotFound, prepare
from its.weights import hub as hub_of_its
from its.weights.files import tensors_of
from its_plugins.codecs.autoencoder_kl import AutoencoderKLCodec
from its_plugins.random_weights import stable_diffusion as random_weights


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return random_weights.stable_diffusion(tmp_path_factory.mktemp("stable-diffusion"))


@pytest.fixture
def alone(model, tmp_path):
    """Folder of an autoencoder with `config.json` in the root, as in a separate repository."""
    return shutil.copytree(model / "vae", tmp_path / "vae")


def loaded(folder, **arguments):
    codec = AutoencoderKLCodec(weights=str(folder), **arguments)
    codec.prepare()
    codec.load()
    return codec


def decoded(codec):
    return codec.decode(torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_an_autoencoder_in_the_root_equals_the_one_beside_a_model(model, alone, ending):
    if ending == "bin":
        file = alone / "diffusion_pytorch_model.safetensors"
        save_tensors(file.with_suffix(".bin"), tensors_of(file))
        file.unlink()
    (alone / "README.md").write_text("not needed")
    codec = loaded(alone)
    assert set(codec.files) == {"config.json", f"diffusion_pytorch_model.{ending}"}
    assert codec.latent_shape((64, 128)) == (4, 8, 16)
    assert torch.equal(decoded(codec), decoded(loaded(model)))


def test_the_subfolder_is_preferred_to_the_root(model, tmp_path):
    both = shutil.copytree(model, tmp_path / "both")
    for name in ("config.json", "diffusion_pytorch_model.safetensors"):
        shutil.copy(model / "unet" / name, both)
    codec = AutoencoderKLCodec(weights=str(both))
    codec.find()
    assert all(name.startswith("vae/") for name in codec.files)


def test_a_repository_of_a_codec_alone(alone, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_of_its, "_unreachable", {})
    hub_of_its._listing.cache_clear()
    with Hub() as hub:
        hub.connect(monkeypatch, tmp_path / "cache")
        hub.add("someone/vae", alone, revision="a" * 40)
        codec = AutoencoderKLCodec(weights="someone/vae")
        prepare([codec])
        assert {name for _, name in hub.served} == {"config.json", "diffusion_pytorch_model.safetensors"}
    hub_of_its._listing.cache_clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = loaded("someone/vae")
    assert again.provenance() == {
        "name": "someone/vae",
        "revision": "a" * 40,
        "files": ["diffusion_pytorch_model.safetensors"],
    }
    assert torch.equal(decoded(again), decoded(loaded(alone)))


def test_another_model_in_the_root_is_refused(model):
    with pytest.raises(UserError, match=r"config\.json is of class UNet2DConditionModel, expected AutoencoderKL"):
        AutoencoderKLCodec(weights=str(model / "unet")).find()
    with pytest.raises(WeightsNotFound, match=r"lacks vae/config\.json"):
        AutoencoderKLCodec(weights=str(model / "text_encoder")).find()


def test_an_autoencoder_whose_latents_are_shifted_is_refused_before_it_is_read(alone):
    path = alone / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"shift_factor": 0.1159, "latent_channels": 16}))
    (alone / "diffusion_pytorch_model.safetensors").write_bytes(hub_trees.UNUSED)
    with pytest.raises(UserError, match=r"config\.json has shift_factor"):
        AutoencoderKLCodec(weights=str(alone)).find()


def test_scaling_factor_is_that_of_the_file(alone, model):
    path = alone / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scaling_factor": 0.5}))
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        scaled, usual = loaded(alone).encode(picture), loaded(model).encode(picture)
    torch.testing.assert_close(scaled / 0.5, usual / 0.18215)


def test_the_only_variant_is_the_fallback(tmp_path):
    folder = random_weights.stable_diffusion(tmp_path, variant="fp16")
    assert loaded(folder).provenance() == loaded(folder, variant="fp16").provenance()
    with pytest.raises(WeightsNotFound, match=r"no bf16 weights in vae .*Set variant to fp16"):
        AutoencoderKLCodec(weights=str(folder), variant="bf16").find()
