"""Noise schedules and prediction types against diffusers' own schedulers and pipeline."""

import json
import shutil

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, StableDiffusionPipeline

from its import Combiner, GuidedExpert, denoise
from its.errors import UserError
from its_plugins.experts.noise_schedule import ToEpsilon, compute_alphas, read_schedule
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.random_weights import stable_diffusion as random_weights
from its_plugins.random_weights.stable_diffusion import SCHEDULER
from its_plugins.schedulers.ddim import DDIM

PROMPTS = ["a painting of castle towers, grayscale", "bell ringing"]
NEGATIVE = ["", "dog barking"]
PREDICTIONS = ["epsilon", "v_prediction", "sample"]


class Alone(Combiner):
    """Combiner of one expert."""

    def weights(self, progress):
        return {"visual": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_weights.stable_diffusion(tmp_path_factory.mktemp("stable-diffusion"))


@pytest.fixture
def scheduled(folder, tmp_path):
    """Function that links the weights into a folder with other scheduler settings, and returns the folder."""

    def write(**settings):
        other = tmp_path / "scheduled"
        other.mkdir()
        for path in folder.iterdir():
            if path.name != "scheduler":
                (other / path.name).symlink_to(path)
        shutil.copytree(folder / "scheduler", other / "scheduler")
        path = other / "scheduler" / "scheduler_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        return other

    return write


@pytest.fixture
def precision():
    """Setter of torch's default dtype, which Lightning sets around `load`."""
    yield torch.set_default_dtype
    torch.set_default_dtype(torch.float32)


# In float32, `sample` amplifies rounding: the first steps divide by sqrt(alpha_t) = 0.07.
@pytest.mark.parametrize(
    ("prediction", "dtype", "tolerance"),
    [
        ("epsilon", torch.float32, 1e-5),
        ("v_prediction", torch.float32, 1e-5),
        ("sample", torch.float32, 1e-4),
        ("v_prediction", torch.float64, 1e-6),
        ("sample", torch.float64, 1e-6),
    ],
)
def test_an_expert_of_each_prediction_type_equals_diffusers_pipeline(
    scheduled, precision, prediction, dtype, tolerance
):
    folder = scheduled(prediction_type=prediction)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, dtype=dtype)
    assert pipeline.scheduler.config.prediction_type == prediction
    pipeline.set_progress_bar_config(disable=True)
    precision(dtype)
    expert = StableDiffusion(weights=str(folder))
    expert.prepare()
    expert.load()
    noise = torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    arguments = {"prompt": PROMPTS, "negative_prompt": NEGATIVE, "guidance_scale": 7.5, "num_inference_steps": 20}
    theirs = pipeline(**arguments, latents=noise, height=64, width=128, output_type="latent").images
    text, null = expert.encode_text(PROMPTS), expert.encode_text(NEGATIVE)
    guided = GuidedExpert(expert, text=text, null_text=null, scales=[7.5] * 2)
    ours = denoise(noise, experts={"visual": guided}, combiner=Alone(), scheduler=DDIM(), steps=20)
    spread = theirs.std()
    torch.testing.assert_close(ours / spread, theirs / spread, atol=tolerance, rtol=0)
    assert expert.provenance().get("prediction_type", "epsilon") == prediction


def test_prediction_types_give_different_estimates():
    """Otherwise the comparison with diffusers is void."""
    latents, t = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)), torch.tensor([500])
    output = torch.ones_like(latents)
    estimates = [
        ToEpsilon(compute_alphas("scaled_linear", 0.00085, 0.012, 1000), p)(output, latents, t) for p in PREDICTIONS
    ]
    for number, one in enumerate(estimates):
        assert all((one - other).abs().max() > 0.1 for other in estimates[:number])


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_estimate_is_the_noise_in_the_latents(prediction, dtype):
    """z_t = sqrt(a) z_0 + sqrt(1 - a) eps, and a perfect network."""
    alphas = compute_alphas("scaled_linear", 0.00085, 0.012, 1000)
    generator = torch.Generator().manual_seed(2)
    clean, noise = (torch.randn(4, 4, 8, 8, generator=generator) for _ in range(2))
    timestep = torch.tensor([1, 250, 600, 999])
    signal, sigma = alphas[timestep].sqrt().reshape(-1, 1, 1, 1), (1 - alphas[timestep]).sqrt().reshape(-1, 1, 1, 1)
    latents = signal * clean + sigma * noise
    output = {"epsilon": noise, "v_prediction": signal * noise - sigma * clean, "sample": clean}[prediction]
    estimate = ToEpsilon(alphas, prediction)(output.to(dtype), latents.to(dtype), timestep)
    assert estimate.dtype == dtype
    exact = dtype == torch.float32
    # At timestep 1, `sample` divides by sigma = 0.04, which amplifies rounding 24 times.
    torch.testing.assert_close(estimate[1:].float(), noise[1:], atol=1e-4 if exact else 0.1, rtol=0)
    torch.testing.assert_close(estimate[:1].float(), noise[:1], atol=1e-4 if exact else 1.0, rtol=0)


@pytest.mark.parametrize("schedule", ["scaled_linear", "linear", "squaredcos_cap_v2"])
@pytest.mark.parametrize("timesteps", [1000, 250])
def test_schedules_equal_diffusers(schedule, timesteps):
    settings = {"beta_schedule": schedule, "beta_start": 0.001, "beta_end": 0.02, "num_train_timesteps": timesteps}
    alphas, prediction = read_schedule(settings, where="x")
    assert (len(alphas), prediction) == (timesteps, "epsilon")
    torch.testing.assert_close(alphas, DDPMScheduler(**settings).alphas_cumprod, rtol=0, atol=1e-7)


def test_defaults_are_stable_diffusions():
    expected = DDIMScheduler(**{key: value for key, value in SCHEDULER.items() if key != "_class_name"}).alphas_cumprod
    for config in ({}, SCHEDULER, {"trained_betas": None, "prediction_type": None}):
        alphas, prediction = read_schedule(config, where="x")
        assert prediction == "epsilon"
        torch.testing.assert_close(alphas, expected, rtol=0, atol=1e-7)


def test_trained_betas():
    betas = torch.linspace(0.001, 0.02, 30).tolist()
    alphas, _ = read_schedule({"trained_betas": betas}, where="x")
    torch.testing.assert_close(alphas, DDPMScheduler(30, trained_betas=betas).alphas_cumprod)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rescale_betas_zero_snr": True}, r"rescale_betas_zero_snr.*Use a model with a noise schedule"),
        ({"prediction_type": "flow"}, "prediction_type is 'flow'; expected one of epsilon, v_prediction, sample"),
        ({"beta_schedule": "sigmoid"}, "beta_schedule is 'sigmoid'; expected one of scaled_linear, linear"),
    ],
)
def test_unsupported_settings_are_refused(scheduled, settings, message):
    folder = scheduled(**settings)
    with pytest.raises(UserError, match=message) as error:
        StableDiffusion(weights=str(folder)).find()
    assert str(folder) in str(error.value)
