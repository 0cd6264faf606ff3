"""Unused experts, shared models and views."""

import pytest
import torch

from its.errors import UserError
from its.methods.denoising import MultimodalDenoising
from its.specs.spec import SampleSpec
from its_plugins.combiners.alternation import Alternation
from its_plugins.combiners.regions import Regions
from its_plugins.combiners.scheduled_average import ScheduledAverage
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.experts.view import View
from its_plugins.random_weights.stable_diffusion import SCHEDULER
from its_plugins.schedulers.ddim import DDIM
from its_plugins.vocoders.griffin_lim import GriffinLim
from its_plugins.vocoders.hifi_gan import HiFiGAN

STEPS = 5


def method(tiny, combiner, **experts):
    ours = {"visual": StableDiffusion(weights=str(tiny / "sd")), "audio": Auffusion(weights=str(tiny / "auffusion"))}
    return MultimodalDenoising(
        experts=experts or ours,
        combiner=combiner,
        scheduler=DDIM(),
        vocoder=HiFiGAN(weights=str(tiny / "auffusion")),
        steps=STEPS,
        canvas=(64, 128),
    )


def row(model, **settings):
    names = model.expert_names
    return SampleSpec(
        prompts={name: f"{name} castle" for name in names},
        negative_prompts=dict.fromkeys(names, ""),
        guidance_scale=dict.fromkeys(names, 7.5),
        seed=3,
        settings=settings,
        source="test",
    )


@torch.inference_mode()
def make(model, *rows):
    samples = model.predict_step(list(rows))
    assert [s.error for s in samples] == [None] * len(rows)
    return [s.result for s in samples]


@torch.inference_mode()
def plain_ddim(expert, prompt):
    """Latents of one expert with diffusers' UNet and scheduler."""
    from diffusers import DDIMScheduler, UNet2DConditionModel

    unet = UNet2DConditionModel.from_pretrained(expert.weights, subfolder="unet")
    scheduler = DDIMScheduler.from_config(SCHEDULER)
    scheduler.set_timesteps(STEPS)
    z = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(3))
    text, null = expert.hidden_states([prompt]), expert.hidden_states([""])
    for t in scheduler.timesteps:
        eps_text, eps_null = (unet(z, t, states).sample for states in (text, null))
        z = scheduler.step(eps_null + 7.5 * (eps_text - eps_null), t, z, eta=0).prev_sample
    return z[0]


@pytest.mark.parametrize(("alone", "other"), [("visual", "audio"), ("audio", "visual")])
def test_a_single_expert_is_plain_ddim_and_the_other_is_not_loaded(tiny, alone, other):
    model = method(tiny, ScheduledAverage({alone: 1.0, other: 0.0}))
    model.prepare()
    model.configure_model()
    assert not list(model.experts[other].parameters())
    (result,) = make(model, row(model))
    expected = plain_ddim(model.experts[alone], f"{alone} castle")
    torch.testing.assert_close(result.latents / expected.std(), expected / expected.std(), rtol=0, atol=1e-4)
    assert result.waveform.shape == (96 * 160,)


def test_a_point_of_a_sweep_that_needs_the_other_expert_has_it_loaded(tiny):
    model = method(tiny, ScheduledAverage({"visual": 1.0, "audio": 0.0}))
    model.prepare()
    both = row(model, combiner={"class_path": "ScheduledAverage", "init_args": {"weights": {"visual": 1, "audio": 1}}})
    model.definition(both)
    model.configure_model()
    alone, together = make(model, row(model), both)
    assert not torch.equal(alone.latents, together.latents)


def test_two_prompts_for_one_model_need_it_once(tiny):
    weights = str(tiny / "sd")
    three = {"left": StableDiffusion(weights=weights), "right": StableDiffusion(weights=weights)}
    audio = Auffusion(weights=str(tiny / "auffusion"))
    average = WarmStartAverage({"left": 1.0, "right": 1.0, "audio": 1.0})
    model = method(tiny, average, **three, audio=audio)
    model.prepare()
    model.configure_model()
    assert model.experts["left"] is model.experts["right"]
    one = sum(p.numel() for p in model.experts["left"].parameters())
    assert sum(p.numel() for p in model.experts.parameters()) == 2 * one  # the audio expert is as large
    (result,) = make(model, row(model))
    two = method(tiny, WarmStartAverage({"left": 1.0, "audio": 1.0}, {"left": 2.0}), left=three["left"], audio=audio)
    two.prepare()
    two.configure_model()
    same_prompts = row(model)
    same_prompts.prompts = {"left": "x castle", "right": "x castle", "audio": "audio castle"}
    pair = row(two)
    pair.prompts = {"left": "x castle", "audio": "audio castle"}
    (thrice,), (twice,) = make(model, same_prompts), make(two, pair)
    scale = twice.latents.std()
    torch.testing.assert_close(thrice.latents / scale, twice.latents / scale, rtol=0, atol=1e-4)
    assert not torch.equal(result.latents, thrice.latents)


def test_incompatible_combiners_and_views_are_errors_before_loading(tiny, tmp_path):
    from PIL import Image

    Image.new("L", (64, 64)).save(tmp_path / "square.png")
    with pytest.raises(UserError, match="model.combiner: Regions: mask of visual: .*proportions of the canvas"):
        method(tiny, Regions({"visual": str(tmp_path / "square.png"), "audio": 1.0}))
    with pytest.raises(UserError, match="model.combiner: Alternation: turns .*at most 5"):
        method(tiny, Alternation(["visual", "audio"], turns=6))
    with pytest.raises(UserError, match="model.combiner: Regions has no value for audio"):
        method(tiny, Regions({"visual": 1.0}))
    view = View(expert=Auffusion(weights=str(tiny / "auffusion")), blocks=(3, 1), order=[2, 1, 0])
    model = method(tiny, WarmStartAverage({"audio": 1.0}), audio=view)
    with pytest.raises(UserError, match="model.experts.audio: blocks .*must divide the latents, which have 8 rows"):
        model.prepare()


def test_the_sample_of_a_mirrored_expert_is_the_mirrored_sample_of_mirrored_noise(tiny):
    """The loop commutes with a view v: the wrapped expert turns z into v^-1(sample of v(z))."""
    from its.diffusion.guidance import GuidedExpert
    from its.diffusion.sampling import denoise

    bare = Auffusion(weights=str(tiny / "auffusion"))
    bare.prepare()
    bare.load()
    view = View(expert=bare, flips=["time"], blocks=(2, 2), order=[1, 0, 3, 2])
    z = torch.randn(1, 4, 8, 16, generator=torch.Generator().manual_seed(0))

    @torch.inference_mode()
    def run(expert, start):
        text, null = expert.encode_text(["bell"]), expert.encode_text([""])
        guided = GuidedExpert(expert, text=text, null_text=null, scales=[5.0])
        alone = WarmStartAverage({"a": 1.0})
        return denoise(start, experts={"a": guided}, combiner=alone, scheduler=DDIM(), steps=3)

    assert torch.equal(run(view, z), view.invert_view(run(bare, view.apply_view(z))))


def test_ids_depend_on_the_view_and_on_the_wrapped_expert(tiny):
    def definition(**options):
        experts = {"audio": View(expert=Auffusion(weights=str(tiny / "auffusion")), **options)}
        model = method(tiny, WarmStartAverage({"audio": 1.0}), **experts)
        model.prepare()
        return model.definition(row(model))

    time, frequency = definition(flips=["time"]), definition(flips=["frequency"])
    assert time != frequency
    assert time == definition(flips=["time"])
    inner = time["settings"]["experts"]["audio"]["expert"]
    assert inner["class"] == "Auffusion"
    assert "weights" not in inner  # weights are identified by content, not by location
    assert "sha256" in time["weights"]["experts.audio"]


def test_the_vocoder_plays_pictures_of_a_visual_expert(tiny):
    model = MultimodalDenoising(
        experts={"visual": StableDiffusion(weights=str(tiny / "sd"))},
        combiner=ScheduledAverage({"visual": 1.0}),
        scheduler=DDIM(),
        vocoder=GriffinLim(iterations=1),
        steps=1,
        canvas=(256, 64),
        trim=0,
    )
    model.prepare()
    model.configure_model()
    (result,) = make(model, row(model))
    assert result.waveform.shape == (64 * 160,)
    assert result.format == model.post_process.vocoder.format
