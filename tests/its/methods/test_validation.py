"""Incompatible components are rejected before large downloads."""

import json
import shutil

import pytest
import tiny_method
import torch

from its import registry
from its.errors import UserError
from its.interfaces import IdentityCodec
from its.methods import validation
from its_plugins.codecs.autoencoder_kl import AutoencoderKLCodec
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.deepfloyd_if import DeepFloydIF
from its_plugins.experts.noise_schedule import compute_alphas
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.random_weights import deepfloyd_if as random_weights_if
from its_plugins.schedulers.ddim import DDIM
from its_plugins.schedulers.diffusers_scheduler import DiffusersScheduler
from its_plugins.vocoders.griffin_lim import GriffinLim

STEPS = (20, 25, 50, 100)
SPACED = ("DDIMScheduler", "DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler")


@pytest.fixture(scope="module")
def floyd(tmp_path_factory):
    """An expert with a cosine schedule."""
    expert = DeepFloydIF(weights=str(random_weights_if.deepfloyd_if(tmp_path_factory.mktemp("floyd"))), variant=None)
    expert.find()
    return expert


@pytest.fixture(scope="module")
def stable(tiny):
    """An expert with Stable Diffusion's schedule."""
    expert = StableDiffusion(weights=str(tiny / "sd"))
    expert.find()
    return expert


def check(expert, scheduler, steps=50):
    validation.check_schedule({"visual": expert}, scheduler, {"visual": steps})


def test_another_schedule_than_an_experts_is_refused_with_its_key_and_what_to_set(floyd, stable):
    for expert, scheduler in (
        (floyd, DDIM()),
        (stable, DDIM(beta_schedule="squaredcos_cap_v2")),
        (stable, DDIM(beta_schedule="linear")),
        (stable, DDIM(beta_end=0.02)),
        (stable, DiffusersScheduler(options={"beta_schedule": "linear"})),
    ):
        with pytest.raises(UserError) as refused:
            check(expert, scheduler)
        for part in (
            f"model.scheduler {type(scheduler).__name__}",
            "model.experts.visual",
            "beta_schedule",
            "expected",
        ):
            assert part in str(refused.value)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_the_right_schedule_is_accepted_whatever_the_spacing(floyd, stable, steps, spacing):
    check(floyd, DDIM(beta_schedule="squaredcos_cap_v2", spacing=spacing), steps)
    check(stable, DDIM(spacing=spacing), steps)
    check(stable, DiffusersScheduler(name="DDIMScheduler", options={"timestep_spacing": spacing}), steps)


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", registry.classes("Scheduler"))
def test_every_registered_scheduler_fits_stable_diffusion_by_default(stable, name, steps):
    scheduler = registry.classes("Scheduler")[name]()
    check(stable, scheduler, steps)


@pytest.mark.parametrize("name", SPACED)
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_so_do_diffusers_own_in_every_spacing(stable, name, spacing):
    for steps in STEPS:
        check(stable, DiffusersScheduler(name=name, options={"timestep_spacing": spacing}), steps)


@pytest.mark.parametrize(
    ("name", "options"),
    [("DPMSolverSinglestepScheduler", {})] + [(name, {"use_karras_sigmas": True}) for name in SPACED[1:]],
)
def test_so_do_those_whose_timesteps_are_rounded(stable, name, options):
    for steps in STEPS:
        check(stable, DiffusersScheduler(name=name, options=options), steps)


def test_the_check_leaves_a_scheduler_as_it_was(stable):
    """Multistep solvers keep estimates, which must not leak into later processes."""
    z = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))

    def walk(scheduler):
        latents, plan = z, scheduler.plan(10)
        for index in range(10):
            latents = plan.step(torch.tanh(latents), index, latents)
        return latents

    checked = DiffusersScheduler()
    check(stable, checked, 10)
    assert torch.equal(walk(checked), walk(DiffusersScheduler()))


def test_fewer_training_timesteps_than_the_scheduler_has_are_refused(stable):
    class Short(StableDiffusion):
        def alphas(self):
            return compute_alphas("scaled_linear", 0.00085, 0.012, 1000)[:500]

    with pytest.raises(UserError, match=r"another noise schedule.*of 500 timesteps"):
        check(Short(weights="x"), DDIM())


def test_each_expert_is_checked(floyd, stable):
    with pytest.raises(UserError, match="model.experts.second"):
        validation.check_schedule({"first": stable, "second": floyd}, DDIM(), {"first": 20, "second": 20})


@pytest.fixture
def rescaled(tiny, tmp_path):
    """The audio expert with the latent scale of Stable Diffusion XL."""
    folder = shutil.copytree(tiny / "auffusion", tmp_path / "rescaled")
    path = folder / "vae" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"scaling_factor": 0.13025}))
    return folder


def method(tiny, **changes):
    defaults = {"vocoder": GriffinLim(iterations=1), "canvas": (256, 128)}
    return tiny_method.method(tiny, load=False, **defaults | changes)


def test_latent_spaces_that_differ_in_scale_are_refused(tiny, rescaled):
    experts = {"visual": StableDiffusion(weights=str(tiny / "sd")), "audio": Auffusion(weights=str(rescaled))}
    with pytest.raises(UserError, match=r"model\.experts have different latent spaces") as refused:
        method(tiny, experts=experts).find()
    for part in ("visual: ", "0.18215", "audio: ", "0.13025"):
        assert part in str(refused.value)


def test_a_cosine_expert_needs_the_cosine_scheduler(tiny, floyd):
    experts = {"visual": DeepFloydIF(weights=floyd.weights, variant=None)}
    changes = {"experts": experts, "combiner": WarmStartAverage(t={"visual": 1.0}), "codec": IdentityCodec()}
    with pytest.raises(UserError, match=r"model\.scheduler DDIM .*model\.experts\.visual .*beta_schedule"):
        method(tiny, **changes).find()
    assert method(tiny, **changes, scheduler=DDIM(beta_schedule="squaredcos_cap_v2")).find() == []


def test_an_autoencoder_of_its_own_can_be_the_codec(tiny, tmp_path):
    alone = shutil.copytree(tiny / "sd" / "vae", tmp_path / "vae")
    model = method(tiny, codec=AutoencoderKLCodec(weights=str(alone)))
    model.prepare()
    model.configure_model()
    assert model.provenance["codec"]["name"] == str(alone)
    assert {key for key, _ in model.components() if "codec" in key} == {"codec"}


def test_a_codec_of_another_latent_space_is_refused(tiny, rescaled):
    with pytest.raises(
        UserError, match=r"model\.codec .*0\.13025.*model\.experts\.\w+ has .*0\.18215.*model\.codec null"
    ):
        method(tiny, codec=AutoencoderKLCodec(weights=str(rescaled))).find()
    with pytest.raises(UserError, match=r"model\.codec IdentityCodec .*pixels"):
        method(tiny, codec=IdentityCodec()).find()
