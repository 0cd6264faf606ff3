"""Tests of replacing the experts of a config by those of a pack."""

import pytest
import yaml

from its.config.fallback import adapt_pack
from its.errors import UserError

PACK = """
model:
  experts:
    visual: {class_path: StableDiffusion, init_args: {weights: "pack:x", unet_folder: unet}}
    audio: {class_path: Auffusion, init_args: {weights: "pack:x", unet_folder: unet_audio}}
  combiner:
    class_path: WarmStartAverage
    init_args: {t: {visual: 1.0, audio: 0.8}, weights: {visual: 0.6, audio: 0.4}}
  steps: 30
data: {guidance_scale: {visual: 4.5, audio: 4.0}}
"""
AVERAGE = {"class_path": "WarmStartAverage", "init_args": {"t": {}}}


def of(class_path, **init_args):
    return {"class_path": class_path, "init_args": {"weights": "hub/name", **init_args}}


def replace_weights(experts, combiner=AVERAGE):
    pack = yaml.safe_load(PACK)
    before = yaml.safe_load(PACK)
    result = adapt_pack(pack, experts, combiner=combiner)
    assert pack == before
    return result


def test_the_packs_own_two_are_as_they_are():
    assert replace_weights({"visual": of("StableDiffusion"), "audio": of("Auffusion")}) == yaml.safe_load(PACK)
    assert replace_weights({}, combiner=None) == yaml.safe_load(PACK)


def test_a_class_that_the_pack_has_is_its_own_whatever_the_name_with_all_settings():
    result = replace_weights({"left": of("StableDiffusion"), "right": of("StableDiffusion"), "bell": of("Auffusion")})
    pack = yaml.safe_load(PACK)["model"]["experts"]
    assert result["model"]["experts"] == {"left": pack["visual"], "right": pack["visual"], "bell": pack["audio"]}
    assert result["model"]["combiner"]["init_args"] == {
        "t": {"left": 1.0, "right": 1.0, "bell": 0.8},
        "weights": {"left": 0.6, "right": 0.6, "bell": 0.4},
    }
    assert result["data"]["guidance_scale"] == {"left": 4.5, "right": 4.5, "bell": 4.0}


def test_another_class_is_the_packs_by_name():
    result = replace_weights({"visual": of("StableDiffusion"), "audio": of("Riffusion")})
    assert result["model"]["experts"] == yaml.safe_load(PACK)["model"]["experts"]


def test_of_a_wrapper_the_expert_within_is_the_packs():
    view = {"class_path": "View", "init_args": {"flips": ["time"], "expert": of("Auffusion")}}
    twice = {"class_path": "View", "init_args": {"flips": ["frequency"], "expert": view}}
    result = replace_weights({"back": view, "twice": twice})["model"]["experts"]
    audio = yaml.safe_load(PACK)["model"]["experts"]["audio"]
    assert result["back"] == {"class_path": "View", "init_args": {"flips": ["time"], "expert": audio}}
    assert result["twice"] == {"class_path": "View", "init_args": {"flips": ["frequency"], "expert": result["back"]}}


def test_so_are_the_wrappers_own_weights_if_the_pack_has_them():
    inner = {"expert": of("StableDiffusion"), "weights": "hub/net", "revision": "main"}
    net = {"class_path": "ControlNet", "init_args": inner}
    view = {"class_path": "View", "init_args": {"flips": ["time"], "expert": net}}
    wrappers = {"ControlNet": {"weights": "pack:x", "subfolder": "net", "revision": None}}
    result = adapt_pack(yaml.safe_load(PACK), {"visual": view}, combiner=AVERAGE, wrappers=wrappers)
    expert = yaml.safe_load(PACK)["model"]["experts"]["visual"]
    made = result["model"]["experts"]["visual"]["init_args"]["expert"]
    assert made == {"class_path": "ControlNet", "init_args": {"expert": expert, **wrappers["ControlNet"]}}
    assert inner["weights"] == "hub/net"


def test_several_control_nets_have_no_equivalent():
    net = {"class_path": "ControlNet", "init_args": {"expert": of("StableDiffusion"), "weights": ["a/b", "c/d"]}}
    with pytest.raises(UserError, match=r"one ControlNet, but visual has 2 in weights"):
        adapt_pack(
            yaml.safe_load(PACK), {"visual": net}, combiner=AVERAGE, wrappers={"ControlNet": {"weights": "pack:x"}}
        )


def test_a_combiner_of_another_class_or_without_all_the_packs_experts_stays_the_configs():
    experts = {"visual": of("StableDiffusion"), "audio": of("Auffusion")}
    assert "combiner" not in replace_weights(experts, combiner={"class_path": "Regions"})["model"]
    assert "combiner" not in replace_weights({"audio": of("Auffusion")})["model"]


def test_an_expert_without_equivalent_in_the_pack_is_named():
    with pytest.raises(UserError, match=r"smell \(Nose\).*visual \(StableDiffusion\), audio \(Auffusion\)"):
        replace_weights({"visual": of("StableDiffusion"), "smell": of("Nose")})
