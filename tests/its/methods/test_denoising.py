"""Multimodal denoising, compared with the authors' program, rewritten here with diffusers' components."""

from dataclasses import replace
from functools import partialmethod

import pytest
import torch
from tiny_method import PROMPTS, make, method, row

from its.errors import UserError
from its.interfaces import Colorizer, Combiner
from its.weights import WeightsNotFound
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.random_weights.stable_diffusion import SCHEDULER
from its_plugins.vocoders.griffin_lim import GriffinLim
from its_plugins.vocoders.hifi_gan import HiFiGAN


@torch.inference_mode()
def authors_program(tiny, *, seed, steps, start, scale, dtype):
    """One sample: text, noise, guided estimates of both experts, average, DDIM, decode."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    pipes = {name: StableDiffusionPipeline.from_pretrained(tiny / name) for name in ("sd", "auffusion")}
    texts = {}
    for name, prompt in zip(pipes, PROMPTS.values(), strict=True):
        pipe = pipes[name]
        encoded = [
            pipe.text_encoder(pipe.tokenizer(p, padding="max_length", max_length=77, return_tensors="pt").input_ids)[0]
            for p in ("", prompt)
        ]
        texts[name] = torch.cat(encoded)
    scheduler = DDIMScheduler(**{k: v for k, v in SCHEDULER.items() if k != "_class_name"})
    scheduler.set_timesteps(steps)
    z = torch.randn((1, 4, 8, 16), generator=torch.manual_seed(seed), dtype=dtype).float()
    for i, t in enumerate(scheduler.timesteps):
        eps = {}
        for name, pipe in pipes.items():
            null, text = pipe.unet(torch.cat([z, z]), t, encoder_hidden_states=texts[name]).sample.chunk(2)
            eps[name] = null + scale * (text - null)
        z = scheduler.step((eps["sd"] + eps["auffusion"]) / 2 if i >= start else eps["auffusion"], t, z).prev_sample
    picture = {
        n: (p.vae.decode(z / p.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1) for n, p in pipes.items()
    }
    return z, picture["sd"], picture["auffusion"].mean(1)


@pytest.mark.parametrize(("steps", "start"), [(20, 2), (100, 10)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_equals_the_authors_program(tiny, steps, start, dtype):
    model = method(tiny, steps=steps, noise_dtype=str(dtype).removeprefix("torch."))
    (ours,) = make(model, row(seed=1234))
    latents, picture, gray = authors_program(tiny, seed=1234, steps=steps, start=start, scale=10.0, dtype=dtype)
    torch.testing.assert_close(ours.latents, latents[0], rtol=0, atol=5e-4)
    torch.testing.assert_close(ours.picture, picture[0, :, :, :-32], rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.spectrogram, gray[0, :, :-32], rtol=0, atol=1e-4)
    # Vocode the authors' picture: flip, denormalise, vocode, trim.
    log_mel = gray.flip(1) * (torch.tensor(200.0).log() - torch.tensor(1e-5).log()) + torch.tensor(1e-5).log()
    waveform = model.post_process.vocoder.generator(log_mel).reshape(-1)[: -32 * 160]
    torch.testing.assert_close(ours.waveform, waveform, rtol=0, atol=1e-4)
    assert ours.waveform.shape == (96 * 160,)


def test_a_batch_equals_its_samples_one_by_one(tiny):
    model = method(tiny)
    rows = [
        row(seed=1),
        row(seed=2, visual=1.0, negative="dog"),
        row(seed=3, prompts={"visual": "dog", "audio": "dog"}),
    ]
    together = make(model, *rows)
    for one, among in zip(rows, together, strict=True):
        (alone,) = make(model, one)
        scale = alone.latents.std()
        torch.testing.assert_close(among.latents / scale, alone.latents / scale, rtol=0, atol=1e-5)
        torch.testing.assert_close(among.spectrogram, alone.spectrogram, rtol=0, atol=1e-5)


def test_the_sample_depends_on_its_seed_prompts_and_scales(tiny):
    model = method(tiny)
    others = [row(seed=2), row(visual=3.0), row(negative="dog"), row(prompts=PROMPTS | {"audio": "dog barking"})]
    first, *rest = make(model, row(), *others)
    for other in rest:
        assert not torch.allclose(first.latents, other.latents, atol=1e-2)


def test_equal_codecs_are_loaded_and_run_once(tiny):
    shared = method(tiny, experts={
        "visual": StableDiffusion(weights=str(tiny / "sd")),
        "audio": Auffusion(weights=str(tiny / "sd")),
    })  # fmt: skip
    assert shared.decoder.sound is shared.decoder.picture
    apart = method(tiny)
    assert apart.decoder.sound is not apart.decoder.picture


def test_loading_twice_changes_nothing(tiny):
    model = method(tiny)
    before = make(model, row())[0].latents
    model.configure_model()
    assert torch.equal(make(model, row())[0].latents, before)


def test_any_vocoder_of_the_format_fits(tiny):
    from its.audio.spectrogram import AUFFUSION

    model = method(tiny, vocoder=GriffinLim(format=replace(AUFFUSION, n_mels=64), iterations=2), steps=2)
    assert make(model, row())[0].waveform.shape == (96 * 160,)


def test_a_colorizer_gets_the_trimmed_picture_its_prompt_and_the_samples_own_generator(tiny):
    class Tint(Colorizer):
        def forward(self, gray, prompts, generators):
            assert set(prompts) == {"a colorful photo of castle towers"}
            shift = torch.stack([torch.randn((), generator=g) for g in generators]).reshape(-1, 1, 1, 1)
            return gray + shift * torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)

    model = method(tiny, colorizer=Tint(), steps=2)
    one, two = make(model, row(seed=1), row(seed=2))
    for result in (one, two):
        torch.testing.assert_close(result.color.mean(0), result.spectrogram, rtol=0, atol=1e-5)
    (alone,) = make(model, row(seed=2))
    torch.testing.assert_close(alone.color, two.color, rtol=0, atol=1e-4)


def test_a_sample_that_is_not_finite_fails_alone(tiny):
    class Poison(WarmStartAverage):
        def combine(self, estimates, latents, progress):
            noise = super().combine(estimates, latents, progress)
            noise[1] = torch.nan
            return noise

    model = method(tiny, combiner=Poison(t={"visual": 1.0, "audio": 1.0}), steps=2)
    with torch.inference_mode():
        good, bad = model.predict_step([row(seed=1), row(seed=2)])
    assert good.result is not None
    assert bad.result is None
    assert bad.error == "not finite: the latents"


def test_a_sound_that_is_not_finite_fails(tiny):
    class Broken(HiFiGAN):
        def forward(self, log_mel):
            return super().forward(log_mel) * torch.nan

    (sample,) = method(tiny, vocoder=Broken(weights=str(tiny / "auffusion")), steps=1).predict_step([row()])
    assert sample.error == "not finite: the waveform"


def test_a_row_that_raises_takes_no_other_with_it(tiny):
    class Picky(StableDiffusion):
        def encode_text(self, prompts):
            if "dog" in prompts:
                raise ArithmeticError("no dogs")
            return super().encode_text(prompts)

    experts = {"visual": Picky(weights=str(tiny / "sd")), "audio": Auffusion(weights=str(tiny / "auffusion"))}
    dog = row(prompts=PROMPTS | {"visual": "dog"})
    with torch.inference_mode():
        made = method(tiny, experts=experts, steps=2).predict_step([row(seed=1), dog, row(seed=2)])
    assert [sample.error for sample in made] == [None, "ArithmeticError: no dogs", None]


def test_a_batch_that_raises_gives_failed_samples(tiny):
    class Broken(WarmStartAverage):
        def combine(self, estimates, latents, progress):
            raise ArithmeticError("no idea")

    model = method(tiny, combiner=Broken(t={"visual": 1.0, "audio": 1.0}))
    (sample,) = model.predict_step([row()])
    assert sample.error == "ArithmeticError: no idea"
    assert "in combine" in sample.traceback


def test_a_batch_too_large_for_the_memory_is_halved_with_the_same_noise(tiny):
    class Hungry(WarmStartAverage):
        def combine(self, estimates, latents, progress):
            if len(latents) > 1:
                raise torch.OutOfMemoryError("too much")
            return super().combine(estimates, latents, progress)

    model = method(tiny, combiner=Hungry(t={"visual": 1.0, "audio": 1.0}), steps=2)
    rows = [row(seed=seed) for seed in range(5)]
    with pytest.warns(UserWarning, match="out of memory at batch size 5: continuing with 2") as warned:
        together = make(model, *rows)
    assert len([w for w in warned if "out of memory" in str(w.message)]) == 2  # at 5 and at 2, then not again
    for one, result in zip(rows, together, strict=True):
        assert torch.equal(make(model, one)[0].latents, result.latents)


def test_one_sample_too_large_for_the_memory_fails(tiny):
    class Hungry(WarmStartAverage):
        def combine(self, estimates, latents, progress):
            raise torch.OutOfMemoryError("too much")

    (sample,) = method(tiny, combiner=Hungry(t={"visual": 1.0, "audio": 1.0})).predict_step([row()])
    assert sample.error == "OutOfMemoryError: too much"


class Named(Combiner):
    """Has a weight for one misspelt expert."""

    def weights(self, progress):
        return {"visuel": 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": {}}, "model.experts is empty"),
        ({"steps": 0}, "model.steps is 0"),
        ({"guidance_interval": (0.7, 0.1)}, r"model.guidance_interval is \[0.7, 0.1\]; expected \[begin, end\]"),
        ({"trim": 128}, "model.trim is 128; expected 0 to less than the canvas's 128 columns"),
        ({"combiner": Named()}, r"Named contains visuel, but the experts are visual, audio.*Did you mean visual"),
        ({"combiner": WarmStartAverage(t={"visual": 1.0, "audio": 1.0, "x": 1.0})}, "contains x, but the experts are"),
    ],
)
def test_arguments_that_make_no_sense(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        method(tiny, load=False, **changes)


def test_latent_spaces_must_be_equal(tiny):
    class Elsewhere(StableDiffusion):
        latent_space = "elsewhere"

    experts = {"visual": Elsewhere(weights=str(tiny / "sd")), "audio": Auffusion(weights=str(tiny / "auffusion"))}
    with pytest.raises(
        UserError, match=r"model\.experts .*different latent spaces .*visual: elsewhere, audio: .*0\.18"
    ):
        method(tiny, load=False, experts=experts).find()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"canvas": (64, 100)}, r"model.canvas: .*multiples of 8"),
        ({"canvas": (128, 128)}, "model.canvas has 128 rows, but the vocoder HiFiGAN expects 64"),
    ],
)
def test_a_canvas_that_does_not_fit(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        method(tiny, **changes)


def test_a_vocoder_of_another_format_is_named(tiny):
    from its.audio.spectrogram import AUFFUSION

    other = GriffinLim(format=replace(AUFFUSION, n_mels=64, hop_length=200, name="Slow"))
    with pytest.raises(
        UserError, match="GriffinLim has the spectrogram format Slow, but model.experts.audio has Auffusion"
    ):
        method(tiny, vocoder=other)


def test_missing_weights_are_named_by_key(tiny):
    experts = {"visual": StableDiffusion(weights="nobody/nowhere"), "audio": Auffusion(weights=str(tiny / "auffusion"))}
    with pytest.raises(
        WeightsNotFound, match=r"^model.experts.visual: nobody/nowhere is not on this machine"
    ) as missing:
        method(tiny, experts=experts)
    assert "use a local folder" in missing.value.remedy


def test_the_definition_tells_samples_apart_and_nothing_else(tiny, tmp_path):
    import shutil

    shutil.copytree(tiny / "sd", tmp_path / "elsewhere")
    moved = {
        "visual": StableDiffusion(weights=str(tmp_path / "elsewhere")),
        "audio": Auffusion(weights=str(tiny / "auffusion")),
    }
    same = method(tiny).definition(row())
    assert method(tiny, experts=moved).definition(row()) == same
    assert method(tiny, steps=11).definition(row()) != same
    assert method(tiny, combiner=WarmStartAverage(t={"visual": 0.8, "audio": 1.0})).definition(row()) != same
    assert method(tiny, vocoder=GriffinLim(format=method(tiny).post_process.vocoder.format)).definition(row()) != same


def test_guidance_in_an_interval_evaluates_less_and_changes_the_sample(tiny):
    rows_asked = []

    class Counting(StableDiffusion):
        def predict_noise(self, latents, timestep, text):
            rows_asked.append(len(latents))
            return super().predict_noise(latents, timestep, text)

    experts = {"visual": Counting(weights=str(tiny / "sd")), "audio": Auffusion(weights=str(tiny / "auffusion"))}
    combiner = WarmStartAverage(t={"visual": 1.0, "audio": 1.0})
    model = method(tiny, experts=experts, combiner=combiner, guidance_interval=(0.2, 0.5))
    (partly,) = make(model, row())
    assert rows_asked == [1, 1, 2, 2, 2, 1, 1, 1, 1, 1]
    (wholly,) = make(method(tiny, combiner=combiner), row())
    assert not torch.allclose(partly.latents, wholly.latents, atol=1e-2)
    assert model.settings(row())["guidance_interval"] == [0.2, 0.5]


@pytest.mark.parametrize("key", ["cuda_graph", "streams"])
def test_what_needs_a_gpu_says_so(tiny, key):
    with pytest.raises(UserError, match=rf"model.{key} is true, but the run is on cpu: set it to auto"):
        method(tiny, **{key: True})


def test_compiled_batches_are_filled_up_and_the_filler_is_dropped(tiny, monkeypatch):
    sizes, compiled = [], []
    monkeypatch.setattr(StableDiffusion, "compile_network", lambda self: compiled.append(self) or True)
    model = method(tiny, compile=True)
    assert compiled == list(model.experts.values())
    makes = model.make
    monkeypatch.setattr(model, "make", lambda rows: sizes.append(len(rows)) or makes(rows))
    rows = [row(seed=seed) for seed in range(4)]
    samples = [*make(model, *rows[:3]), *make(model, rows[3])]
    assert sizes == [3, 3]
    for one, sample in zip(rows, samples, strict=True):
        (alone,) = make(method(tiny), one)
        torch.testing.assert_close(sample.spectrogram, alone.spectrogram, rtol=0, atol=1e-5)


def test_an_expert_with_nothing_to_compile_is_named(tiny, monkeypatch):
    monkeypatch.setattr(StableDiffusion, "compile_network", lambda self: False)
    with pytest.warns(UserWarning, match=r"model.compile: expert visual \(StableDiffusion\) has no network to compile"):
        method(tiny, compile=True)


@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_a_compiled_network_gives_the_same_but_for_rounding(tiny, monkeypatch, backend):
    from torch._dynamo.utils import counters

    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", partialmethod(compile_module, backend=backend))
    torch._dynamo.reset()
    counters.clear()
    rows = [row(seed=1), row(seed=2)]
    compiled = method(tiny, compile=True, steps=4)
    for one, sample in zip(rows, make(compiled, *rows), strict=True):
        (plain,) = make(method(tiny, steps=4), one)
        torch.testing.assert_close(sample.spectrogram, plain.spectrogram, rtol=0, atol=1e-4)
    graphs = counters["stats"]["unique_graphs"]
    assert graphs > 0
    assert not counters["graph_break"]
    make(compiled, row(seed=3))  # a smaller batch is padded
    assert counters["stats"]["unique_graphs"] == graphs
