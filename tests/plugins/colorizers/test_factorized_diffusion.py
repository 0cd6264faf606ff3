import pytest
import torch

from its_plugins.colorizers import factorized_diffusion
from its_plugins.colorizers.factorized_diffusion import (
    FactorizedDiffusion,
    add_chroma,
    add_noise,
    guide,
    luminance,
    sample_ancestral,
)
from its_plugins.experts.deepfloyd_if import DeepFloydIF
from its_plugins.experts.deepfloyd_if_upscaler import DeepFloydIFUpscaler
from its_plugins.experts.pixel_expert import PixelExpert
from its_plugins.random_weights import deepfloyd_if as random_weights_if

PROMPTS = ["castle towers", "dog barking"]


def source(seed):
    return torch.Generator().manual_seed(seed)


def loaded(component):
    component.prepare()
    component.load()
    return component


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("if")
    return (
        random_weights_if.deepfloyd_if(folder / "one"),
        random_weights_if.deepfloyd_if_upscaler(folder / "two"),
    )


@pytest.fixture(scope="module")
def expert(folders):
    return loaded(DeepFloydIF(weights=str(folders[0]), variant=None))


@pytest.fixture(scope="module")
def upscaler(folders):
    return loaded(DeepFloydIFUpscaler(weights=str(folders[1]), variant=None))


def load_pipeline(folder, cls):
    """Load a pipeline of diffusers from a folder of `random_weights`."""
    from diffusers import DDPMScheduler, UNet2DConditionModel

    parts = {
        "tokenizer": None,
        "text_encoder": None,
        "unet": UNet2DConditionModel.from_pretrained(folder / "unet"),
        "scheduler": DDPMScheduler.from_pretrained(folder / "scheduler"),
        "safety_checker": None,
        "feature_extractor": None,
        "watermarker": None,
        "requires_safety_checker": False,
    }
    if (folder / "image_noising_scheduler").exists():
        parts["image_noising_scheduler"] = DDPMScheduler.from_pretrained(folder / "image_noising_scheduler")
    pipeline = cls(**parts)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def sample(x, estimate, sampler, steps, generators):
    sampler.set_timesteps(steps)
    timesteps = sampler.timesteps.tolist()
    return sample_ancestral(x, estimate=estimate, sampler=sampler, timesteps=timesteps, generators=generators)


def test_stage_one_without_a_gray_equals_diffusers_pipeline(folders, expert):
    from diffusers import IFPipeline

    text, null = expert.encode_text(PROMPTS), expert.encode_text(["", ""])
    arguments = {"prompt_embeds": text, "negative_prompt_embeds": null, "output_type": "pt", "guidance_scale": 7.0}
    theirs = load_pipeline(folders[0], IFPipeline)(
        **arguments, height=16, width=32, num_inference_steps=8, generator=[source(0), source(1)]
    ).images
    sources = [source(0), source(1)]
    x = torch.stack([torch.randn(3, 16, 32, generator=generator) for generator in sources])
    ours = sample(x, guide(expert.predict, text, null, 7.0), expert.sampler(), 8, sources)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_stage_two_without_a_gray_equals_diffusers_pipeline(folders, expert, upscaler):
    from diffusers import IFSuperResolutionPipeline

    text, null = expert.encode_text(PROMPTS), expert.encode_text(["", ""])
    small = torch.rand(2, 3, 8, 16, generator=source(5)) * 2 - 1
    arguments = {"prompt_embeds": text, "negative_prompt_embeds": null, "output_type": "pt", "guidance_scale": 4.0}
    theirs = load_pipeline(folders[1], IFSuperResolutionPipeline)(
        **arguments, image=small, height=32, width=64, num_inference_steps=8, noise_level=50,
        generator=[source(0), source(1)],
    ).images  # fmt: skip
    sources = [source(0), source(1)]
    x = torch.stack([torch.randn(3, 32, 64, generator=generator) for generator in sources])
    estimate = guide(upscaler.condition_on(small, (32, 64), sources), text, null, 4.0)
    ours = sample(x, estimate, upscaler.sampler(), 8, sources)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_every_noisy_picture_has_the_luminance_of_the_noised_gray(expert):
    """The channel mean of the model's input is sqrt(a_t) gray + noise of variance (1 - a_t) / 3."""
    gray = torch.rand(1, 1, 64, 64, generator=source(1)) * 2 - 1
    sampler, inputs = expert.sampler(), []
    sampler.set_timesteps(30)
    timesteps = sampler.timesteps.tolist()[7:]

    def estimate(x, t):
        inputs.append((int(t[0]), x))
        return torch.randn(1, 6, 64, 64, generator=source(len(inputs))) * 0.1  # output of an arbitrary model

    sources = [source(0)]
    x = add_noise(gray, timesteps[0], sampler, sources)
    sample_ancestral(x, estimate=estimate, sampler=sampler, timesteps=timesteps, generators=sources, gray=gray)
    assert [t for t, _ in inputs] == timesteps
    assert len(inputs) == 23
    for t, x in inputs:
        alpha = sampler.alphas_cumprod[t]
        rest = luminance(x) - alpha.sqrt() * gray
        assert float(rest.std()) == pytest.approx(float(((1 - alpha) / 3).sqrt()), rel=0.05)
        gain = (luminance(x) * gray).mean() / gray.square().mean()
        assert float(gain) == pytest.approx(float(alpha.sqrt()), abs=0.05)


def test_the_gray_is_noised_at_gain_one(expert):
    sampler, gray = expert.sampler(), torch.full((1, 1, 64, 64), 0.5)
    alpha = sampler.alphas_cumprod[100]
    x = add_noise(gray, 100, sampler, [source(0)])
    assert float(x.mean()) == pytest.approx(float(alpha.sqrt()) * 0.5, abs=0.01)
    assert float(x.var()) == pytest.approx(float(1 - alpha), rel=0.05)


class MaximalChroma(PixelExpert):
    """Predicts zero noise, which gives the strongest colours."""

    multiple = 8

    def sampler(self):
        return fixed_variance()

    def encode_text(self, prompts):
        return torch.zeros(len(prompts), 1)

    def predict(self, pixels, timestep, text):
        assert pixels.shape[2] % 8 == pixels.shape[3] % 8 == 0
        return torch.zeros_like(pixels)


def check_mean(colorizer, size):
    gray = torch.rand(2, 1, *size, generator=source(2))
    gray[0, 0, 0], gray[0, 0, 1] = 0.0, 1.0  # black and white can't have chroma
    rgb = colorizer(gray, PROMPTS, [source(0), source(1)])
    assert rgb.shape == (2, 3, *size)
    assert float((rgb - luminance(rgb)).abs().max()) > 0.05, "the result has no colour, so the test is void"
    pixels, spectrogram = (rgb * 255).round(), (gray * 255).round()
    assert float((luminance(pixels) - spectrogram).abs().max()) <= 1
    assert float((luminance(rgb) - gray).abs().max()) < 1e-5


@pytest.mark.parametrize("shrink", [1, 4, 8])
@pytest.mark.parametrize("size", [(256, 1024), (256, 992), (64, 124), (50, 70), (5, 3)])
def test_channel_mean_is_the_gray_after_rounding_to_8_bits(size, shrink):
    check_mean(FactorizedDiffusion(expert=MaximalChroma(), shrink=shrink, steps=2, start=0), size)


@pytest.mark.parametrize("size", [(64, 124), (50, 70)])
def test_channel_mean_is_the_gray_with_a_second_stage_too(expert, upscaler, size):
    check_mean(FactorizedDiffusion(expert=expert, upscaler=upscaler, steps=3, start=1), size)


def test_chroma_is_shrunk_as_little_as_needed_and_keeps_its_hue():
    gray = torch.tensor([0.5, 0.9, 0.1, 0.0, 1.0]).reshape(1, 1, 1, 5)
    chroma = torch.tensor([0.3, -0.1, -0.2]).reshape(1, 3, 1, 1).expand(1, 3, 1, 5)
    rgb = add_chroma(gray, chroma)
    expected = torch.tensor([[0.8, 0.4, 0.3], [1.0, 0.9 - 0.1 / 3, 0.9 - 0.2 / 3], [0.25, 0.05, 0.0], [0] * 3, [1] * 3])
    torch.testing.assert_close(rgb[0, :, 0].T, expected, atol=1e-6, rtol=0)


def test_a_batch_is_its_samples_and_each_has_its_own_noise(expert, upscaler):
    colorizer = FactorizedDiffusion(expert=expert, upscaler=upscaler, steps=2, start=1)
    gray = torch.rand(1, 1, 64, 64, generator=source(3)).expand(2, -1, -1, -1)
    both = colorizer(gray, [PROMPTS[0]] * 2, [source(0), source(1)])
    one = colorizer(gray[1:], PROMPTS[:1], [source(1)])
    torch.testing.assert_close(both[1:], one, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(both[0], both[1], atol=1e-2)


def test_one_estimate_per_step_from_start(expert, monkeypatch):
    calls = []
    monkeypatch.setattr(expert, "predict", lambda x, t, text: calls.append((len(x), int(t[0]))) or torch.zeros_like(x))
    monkeypatch.setattr(type(expert), "sampler", lambda self: fixed_variance())
    FactorizedDiffusion(expert=expert)(torch.rand(1, 1, 64, 64), ["bell"], [source(0)])
    assert [rows for rows, _ in calls] == [2] * 23  # conditional and unconditional
    assert calls[0][1] == fixed_variance(30).timesteps[7]
    calls.clear()
    FactorizedDiffusion(expert=expert, guidance_scale=1.0)(torch.rand(1, 1, 64, 64), ["bell"], [source(0)])
    assert [rows for rows, _ in calls] == [1] * 23


def fixed_variance(steps=1):
    from diffusers import DDPMScheduler

    sampler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    sampler.set_timesteps(steps)
    return sampler


def test_a_perfect_model_reproduces_the_colours(monkeypatch):
    """With a perfect model, factorisation must reproduce the colours of the clean picture."""
    gray = torch.rand(1, 1, 32, 32, generator=source(4)) * 0.2 + 0.4
    clean = 2 * (gray + torch.tensor([0.2, -0.05, -0.15]).reshape(1, 3, 1, 1)) - 1
    sampler = fixed_variance(30)
    timesteps = sampler.timesteps.tolist()[7:]

    def estimate(x, t):
        alpha = sampler.alphas_cumprod[t[0]]
        return (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()

    sources = [source(0)]
    x = add_noise(gray * 2 - 1, timesteps[0], sampler, sources)
    x = sample_ancestral(
        x, estimate=estimate, sampler=sampler, timesteps=timesteps, generators=sources, gray=gray * 2 - 1
    )
    torch.testing.assert_close(x, clean, atol=1e-3, rtol=0)


def test_the_record_covers_both_stages(expert, upscaler):
    record = FactorizedDiffusion(expert=expert, upscaler=upscaler).provenance()
    assert record["name"] == f"{expert.weights} + {upscaler.weights}"
    assert len(record["sha256"].split(" + ")) == 2
    assert "embedded" not in record


def test_arguments_out_of_range_are_refused(expert):
    with pytest.raises(ValueError, match=r"start \(=30\) must lie between 0 and steps \(=30\) - 1"):
        FactorizedDiffusion(expert=expert, start=30)
    with pytest.raises(ValueError, match=r"shrink \(=0\)"):
        FactorizedDiffusion(expert=expert, shrink=0)
    with pytest.raises(ValueError, match=r"noise_level \(=1000\)"):
        DeepFloydIFUpscaler(noise_level=1000)


def test_the_gray_is_made_smaller_with_antialiasing(expert, monkeypatch):
    """Stripes of one pixel average to gray; subsampling every fourth pixel would give black or white."""
    inputs = []
    monkeypatch.setattr(
        factorized_diffusion, "sample_ancestral", lambda x, *, gray, **rest: inputs.append(gray) or torch.zeros_like(x)
    )
    gray = torch.zeros(1, 1, 64, 64)
    gray[..., ::2] = 1
    FactorizedDiffusion(expert=expert)(gray, ["bell"], [source(0)])
    assert inputs[0].shape == (1, 1, 16, 16)
    assert float(inputs[0][..., 2:-2].abs().max()) < 0.1
