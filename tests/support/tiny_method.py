"""The main method on tiny weights."""

import torch

from its.methods.denoising import MultimodalDenoising
from its.specs.spec import SampleSpec
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.schedulers.ddim import DDIM
from its_plugins.vocoders.hifi_gan import HiFiGAN

PROMPTS = {"visual": "castle towers", "audio": "bell ringing"}


def row(seed=1, visual=10.0, audio=10.0, prompts=PROMPTS, negative="") -> SampleSpec:
    return SampleSpec(
        prompts=prompts,
        negative_prompts={"visual": negative, "audio": negative},
        guidance_scale={"visual": visual, "audio": audio},
        seed=seed,
        source="test",
    )


def method(tiny, *, load=True, **changes) -> MultimodalDenoising:
    arguments = {
        "experts": {
            "visual": StableDiffusion(weights=str(tiny / "sd")),
            "audio": Auffusion(weights=str(tiny / "auffusion")),
        },
        "combiner": WarmStartAverage(t={"visual": 0.9, "audio": 1.0}),
        "scheduler": DDIM(),
        "vocoder": HiFiGAN(weights=str(tiny / "auffusion")),
        "steps": 10,
        "canvas": (64, 128),
    }
    model = MultimodalDenoising(**{**arguments, **changes})
    if load:
        model.prepare()
        model.configure_model()
    return model


@torch.inference_mode()
def make(model, *rows):
    samples = model.predict_step(list(rows))
    assert [s.error for s in samples] == [None] * len(rows)
    return [s.result for s in samples]
