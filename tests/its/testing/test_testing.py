"""The contract suite accepts conforming plugins, and names the clause that others violate."""

import pytest
import torch
from einops import rearrange

from its import AUFFUSION, Colorizer, IdentityCodec, NoiseExpert, Vocoder
from its.testing import check_codec, check_colorizer, check_expert, check_plugin, check_vocoder


class ToyExpert(NoiseExpert):
    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(0.5), requires_grad=False)

    latent_space = "pixels"

    def encode_text(self, prompts):
        return torch.tensor([[sum(map(ord, p)) / 10_000] for p in prompts]).to(self.gain)

    def predict_noise(self, latents, timestep, text):
        shift = rearrange(text[:, 0] + timestep / 1000, "b -> b 1 1 1")
        return (latents * self.gain + shift).to(latents.dtype)


class MixesBatch(ToyExpert):
    def predict_noise(self, latents, timestep, text):
        return super().predict_noise(latents, timestep, text) - latents.mean()


class OneTimestep(ToyExpert):
    def predict_noise(self, latents, timestep, text):
        return super().predict_noise(latents, timestep[:1].expand_as(timestep), text)


class IgnoresText(ToyExpert):
    def predict_noise(self, latents, timestep, text):
        return super().predict_noise(latents, timestep, torch.zeros_like(text))


class SameText(ToyExpert):
    def encode_text(self, prompts):
        return torch.ones(len(prompts), 1).to(self.gain)


class OddNullText(ToyExpert):
    def encode_text(self, prompts):
        text = super().encode_text(prompts)
        return text if any(prompts) else text[:, :0]


class WeightsDecideDtype(ToyExpert):
    def predict_noise(self, latents, timestep, text):
        return super().predict_noise(latents, timestep, text).to(self.gain.dtype)


class Random(ToyExpert):
    def predict_noise(self, latents, timestep, text):
        return super().predict_noise(latents, timestep, text) + torch.rand(())


class ReadsOnTheHost(ToyExpert):
    capturable = True

    def predict_noise(self, latents, timestep, text):
        shift = torch.tensor([float(t) for t in timestep])[:, None]
        return super().predict_noise(latents, timestep * 0, text + shift / 1000)


class Trains(ToyExpert):
    def __init__(self):
        super().__init__()
        self.gain.requires_grad_(True)


class OverwritesLatents(ToyExpert):
    def predict_noise(self, latents, timestep, text):
        return super().predict_noise(latents.mul_(0.9), timestep, text)


class LoadsAgain(ToyExpert):
    def load(self):
        self.gain = torch.nn.Parameter(torch.rand(()), requires_grad=False)


class OddProvenance(ToyExpert):
    def provenance(self):
        return {"gain": self.gain}


def test_an_expert_that_keeps_the_contract(tmp_path):
    check_plugin(ToyExpert, tmp_path)


@pytest.mark.parametrize(
    ("expert", "clause"),
    [
        (MixesBatch, "predict_noise of a batch with different timesteps equals that of each sample"),
        (OneTimestep, "predict_noise of a batch with different timesteps equals that of each sample"),
        (IgnoresText, "predict_noise depends on the text"),
        (SameText, "encode_text depends on the prompt"),
        (OddNullText, "encode_text returns the same shape for the empty prompt"),
        (WeightsDecideDtype, r"predict_noise returns the dtype of the latents after .to\(bfloat16\)"),
        (Random, "predict_noise is deterministic"),
        (ReadsOnTheHost, "predict_noise of a capturable expert never synchronises.*_local_scalar_dense"),
        (Trains, "estimates require no gradient"),
        (OverwritesLatents, "predict_noise does not change the latents in place"),
        (LoadsAgain, "prepare and load are idempotent"),
        (OddProvenance, "provenance must be JSON-serialisable"),
    ],
)
def test_broken_experts(expert, clause):
    with pytest.raises(AssertionError, match=f"{expert.__name__} violates the contract of NoiseExpert: {clause}"):
        check_expert(expert())


class Halving(IdentityCodec):
    def latent_shape(self, canvas):
        return 3, canvas[0] // 2, canvas[1] // 2

    def encode(self, picture):
        return torch.nn.functional.avg_pool2d(super().encode(picture), 2)

    def decode(self, latents):
        return torch.nn.functional.interpolate(super().decode(latents), scale_factor=2)


class NeedsAName(Halving):
    def latent_shape(self, canvas):
        if canvas[0] % 2:
            raise ValueError("bad canvas")
        return super().latent_shape(canvas)


class CutsGradients(IdentityCodec):
    def encode(self, picture):
        return super().encode(picture.round())


class Unclamped(IdentityCodec):
    def decode(self, latents):
        return latents / 2 + 0.5


@pytest.mark.parametrize(
    ("codec", "clause"),
    [
        (Halving, "latent_shape raises ValueError if rows are not a multiple of 2"),
        (NeedsAName, "the error of latent_shape contains the canvas and the downsampling factor 2"),
        (CutsGradients, "encode is differentiable"),
        (Unclamped, r"decode returns values in \[0, 1\]"),
    ],
)
def test_codecs(codec, clause):
    check_codec(IdentityCodec())
    with pytest.raises(AssertionError, match=f"{codec.__name__} violates the contract of LatentCodec: {clause}"):
        check_codec(codec())


class Buzz(Vocoder):
    format = AUFFUSION

    def __init__(self):
        super().__init__()
        self.register_buffer("wave", torch.linspace(-1, 1, AUFFUSION.hop_length))

    def forward(self, log_mel):
        loudness = AUFFUSION.to_picture(log_mel).mean(dim=(1, 2))
        return rearrange(loudness[..., None] * self.wave, "b t n -> b (t n)")


class Casts(Buzz):
    def _apply(self, fn, recurse=True):
        return torch.nn.Module._apply(self, fn, recurse)


class Short(Buzz):
    def forward(self, log_mel):
        return super().forward(log_mel)[:, :-1]


class Loud(Buzz):
    def forward(self, log_mel):
        return super().forward(log_mel) * 100


class Normalises(Buzz):
    def forward(self, log_mel):
        sound = super().forward(log_mel)
        return sound / sound.abs().max()


@pytest.mark.parametrize(
    ("vocoder", "clause"),
    [
        (Casts, "a vocoder stays in float32"),
        (Short, r"sound is \(b, t \* hop_length\).*\(got: \(2, 3839\)\)"),
        (Loud, r"sound is in \[-1, 1\]"),
        (Normalises, "sound of a batch equals that of each sample"),
    ],
)
def test_vocoders(vocoder, clause):
    check_vocoder(Buzz())
    with pytest.raises(AssertionError, match=f"{vocoder.__name__} violates the contract of Vocoder: {clause}"):
        check_vocoder(vocoder())


class Tint(Colorizer):
    def forward(self, gray, prompts, generators):
        noise = torch.stack([torch.rand(3, 1, 1, generator=generator) for generator in generators])
        tint = noise - noise.mean(1, keepdim=True)
        return gray + tint * torch.minimum(gray, 1 - gray)


class Darkens(Tint):
    def forward(self, gray, prompts, generators):
        return super().forward(gray, prompts, generators) * 0.9


class GlobalNoise(Tint):
    def forward(self, gray, prompts, generators):
        return super().forward(gray, prompts, [torch.default_generator] * len(gray))


class FirstGenerator(Tint):
    def forward(self, gray, prompts, generators):
        return super().forward(gray, prompts, [generators[0]] * len(gray))


@pytest.mark.parametrize(
    ("colorizer", "clause"),
    [
        (Darkens, "the channel mean equals the gray input"),
        (GlobalNoise, "the samples' generators are the only source of randomness"),
        (FirstGenerator, "colour of a batch equals that of each sample"),
    ],
)
def test_colorizers(colorizer, clause):
    check_colorizer(Tint())
    with pytest.raises(AssertionError, match=f"{colorizer.__name__} violates the contract of Colorizer: {clause}"):
        check_colorizer(colorizer())


def test_classes_that_are_not_plugins(tmp_path):
    with pytest.raises(AssertionError, match="dict is not a plugin: it implements none of NoiseExpert"):
        check_plugin(dict, tmp_path)
    with pytest.raises(AssertionError, match="Tint is not a NoiseExpert"):
        check_expert(Tint())
