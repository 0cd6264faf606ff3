import pytest

from its import AUFFUSION
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.random_weights import stable_diffusion as random_weights


def test_it_draws_spectrograms_in_the_latent_space_of_stable_diffusion(tiny):
    audio, visual = Auffusion(weights=str(tiny / "auffusion")), StableDiffusion(weights=str(tiny / "sd"))
    assert audio.format == AUFFUSION
    assert visual.format is None
    for expert in (audio, visual):
        with pytest.raises(RuntimeError, match=r"call find\(\)"):
            _ = expert.latent_space
        expert.find()
    assert audio.latent_space == visual.latent_space
    assert Auffusion().weights == "auffusion/auffusion-full-no-adapter"


def test_arguments_reach_the_loader(tmp_path):
    random_weights.stable_diffusion(tmp_path, unets=["unet", "unet_audio"])
    audio = Auffusion(weights=str(tmp_path), unet_folder="unet_audio")
    audio.prepare()
    assert "unet_audio/config.json" in audio.files
    assert not any(name.startswith("unet/") for name in audio.files)
    assert audio.codec().weights == str(tmp_path)


def test_positional_arguments_are_refused():
    with pytest.raises(TypeError):
        Auffusion("auffusion/auffusion-full-no-adapter")
