from its.methods.sharing import deduplicate_experts
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.experts.view import View


def test_equal_experts_are_one_object_under_their_names():
    experts = deduplicate_experts(
        {name: StableDiffusion(weights="a") for name in ("left", "right")} | {"audio": Auffusion()}
    )
    assert list(experts) == ["left", "right", "audio"]
    assert experts["left"] is experts["right"]


def test_other_arguments_and_other_classes_are_other_experts():
    experts = {
        "a": StableDiffusion(weights="x"),
        "b": StableDiffusion(weights="x", unet_folder="other"),
        "c": Auffusion(weights="x"),
    }
    assert deduplicate_experts(experts) == experts


def test_so_are_those_that_views_hold():
    bare, other, third = Auffusion(), *(View(expert=Auffusion(), flips=[flip]) for flip in ("time", "frequency"))
    experts = deduplicate_experts({"forwards": bare, "backwards": other, "upside_down": third})
    assert experts["backwards"] is other
    assert experts["forwards"] is bare is experts["backwards"].expert is experts["upside_down"].expert
    assert experts["upside_down"] is not other
