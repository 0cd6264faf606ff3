"""The components with weights that configs name."""

import pytest
import yaml

from its import registry
from its.engine.components import components
from its.errors import UserError
from its.weights import PretrainedComponent


def named(found):
    return {name: sorted(type(part).__name__ for part in parts) for name, parts in found.items()}


def test_without_configs_every_registered_class_with_its_default_weights():
    found = components([])
    assert named(found)["stable-diffusion-v1-5/stable-diffusion-v1-5"] == ["AutoencoderKLCodec", "StableDiffusion"]
    assert named(found)["auffusion/auffusion-full-no-adapter"] == ["Auffusion", "AutoencoderKLCodec", "HiFiGAN"]
    kinds = {type(part) for parts in found.values() for part in parts}
    assert all(issubclass(kind, PretrainedComponent) for kind in kinds)
    assert {registry.classes()[name] for name in ("CLIPScorer", "CLAPScorer", "DeepFloydIF", "Riffusion")} <= kinds


def write(path, **model):
    path.write_text(yaml.safe_dump({"model": model}))
    return path


def expert(weights, name="StableDiffusion", **arguments):
    return {"class_path": name, "init_args": {"weights": weights, **arguments}}


def test_components_within_others_are_found(tmp_path):
    view = {"class_path": "View", "init_args": {"expert": expert("b", "Auffusion"), "flips": ["time"]}}
    colorizer = {
        "class_path": "FactorizedDiffusion",
        "init_args": {"expert": expert("c", "DeepFloydIF"), "upscaler": expert("d", "DeepFloydIFUpscaler")},
    }
    config = write(tmp_path / "a.yaml", experts={"visual": expert("a"), "audio": view}, colorizer=colorizer)
    assert named(components([config])) == {
        "a": ["AutoencoderKLCodec", "StableDiffusion"],
        "b": ["Auffusion", "AutoencoderKLCodec"],
        "c": ["DeepFloydIF"],
        "d": ["DeepFloydIFUpscaler"],
    }


def test_a_later_config_counts(tmp_path):
    first = write(tmp_path / "a.yaml", experts={"visual": expert("a")}, vocoder={"class_path": "GriffinLim"})
    second = write(tmp_path / "b.yaml", experts={"visual": expert("b")})
    assert set(components([first, second])) == {"b"}


def test_wrong_arguments_are_told_with_the_class(tmp_path):
    config = write(tmp_path / "a.yaml", experts={"visual": expert("a", weight="x")})
    with pytest.raises(UserError, match="StableDiffusion has no argument weight; .*Did you mean weights"):
        components([config])
