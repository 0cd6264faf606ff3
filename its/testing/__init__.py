"""Contract suite: checks that a plugin conforms to its interface.

A plugin's test:

    def test_contract(tmp_path):
        check_plugin(MyExpert, tmp_path)

`MyExpert.example(folder)` must create a small instance. The check of one interface can also be called with any instance
on the CPU, whether prepared and loaded or not. The message of an AssertionError contains the violated clause.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from its.audio.spectrogram import SpectrogramFormat
from its.interfaces import Colorizer, LatentCodec, NoiseExpert, Scorer, ScorerInput, Vocoder
from its.registry import interface_of
from its.testing.contract import Contract, NoHostReads, check_component, close, generator, noise_of, within
from its.testing.sampling import check_combiner as check_combiner
from its.testing.sampling import check_scheduler as check_scheduler

PROMPTS = ("a painting of castle towers, grayscale", "bell ringing")
NAMES = ("visual", "audio")


def check_plugin(cls: type, folder: Path) -> None:
    """Check a plugin class against the contract of its interface, using its `example`.

    Args:
        cls: subclass of an interface.
        folder: empty folder for the example's weights.

    Raises:
        AssertionError: the plugin violates a clause; the message contains both.
    """
    example: Any = getattr(cls, "example", None)
    checks: dict[str, Callable[[], None]] = {
        "NoiseExpert": lambda: check_expert(example(folder)),
        "Combiner": lambda: check_combiner(example(NAMES), NAMES),
        "Scheduler": lambda: check_scheduler(example()),
        "Vocoder": lambda: check_vocoder(example(folder)),
        "Colorizer": lambda: check_colorizer(example(folder)),
        "LatentCodec": lambda: check_codec(example(folder)),
        "Scorer": lambda: check_scorer(example(folder)),
    }
    interface = interface_of(cls)
    if interface not in checks:
        raise AssertionError(f"{cls.__name__} is not a plugin: it implements none of {', '.join(checks)}")
    checks[interface]()


def check_expert(expert: NoiseExpert, *, canvas: tuple[int, int] = (64, 128), prompts: Sequence[str] = PROMPTS) -> None:
    """Check a `NoiseExpert` on a canvas that its codec supports, with two prompts of different meaning."""
    need = Contract(expert, NoiseExpert)
    check_component(expert, need)
    need(isinstance(expert.latent_space, str) and expert.latent_space != "", "latent_space is a non-empty string")
    known = expert.format is None or isinstance(expert.format, SpectrogramFormat)
    need(known, "format is a SpectrogramFormat or None", expert.format)
    codec = expert.codec()
    need(isinstance(codec, LatentCodec), "codec returns a LatentCodec")
    codec.prepare()
    latents = noise_of(2, *codec.latent_shape(canvas))
    original = latents.clone()
    timestep = torch.tensor([801, 201])

    alphas = expert.alphas()
    need(alphas.ndim == 1 and within(alphas, 0, 1), "alphas returns (T,) values in [0, 1]", alphas.shape)
    need(bool((alphas.diff() < 0).all()), "alphas decrease: later timesteps are noisier")

    text, null = expert.encode_text(prompts), expert.encode_text([""])
    need(len(text) == len(prompts), "encode_text returns one embedding per prompt")
    need(null.shape == (1, *text.shape[1:]), "encode_text returns the same shape for the empty prompt")
    singles = torch.cat([expert.encode_text([prompt]) for prompt in prompts])
    need(close(text, singles), "encode_text of a batch equals that of each prompt")
    need(not close(text[0], text[1]), "encode_text depends on the prompt")

    noise = expert.predict_noise(latents, timestep, text)
    need(noise.shape == latents.shape, "predict_noise returns the shape of the latents", noise.shape)
    need(noise.dtype == latents.dtype, "predict_noise returns the dtype of the latents", noise.dtype)
    need(bool(noise.isfinite().all()), "predict_noise returns finite values")
    no_gradients = not (text.requires_grad or noise.requires_grad)
    need(no_gradients, "estimates require no gradient if their inputs do not")
    need(torch.equal(latents, original), "predict_noise does not change the latents in place")
    need(torch.equal(noise, expert.predict_noise(latents, timestep, text)), "predict_noise is deterministic")
    singles = torch.cat([expert.predict_noise(latents[[i]], timestep[[i]], text[[i]]) for i in range(2)])
    need(close(noise, singles), "predict_noise of a batch with different timesteps equals that of each sample")
    swapped = expert.predict_noise(latents, timestep, text.flip(0))
    need(not torch.equal(noise, swapped), "predict_noise depends on the text")
    later = expert.predict_noise(latents, timestep.flip(0), text)
    need(not torch.equal(noise, later), "predict_noise depends on the timestep")
    if expert.capturable:
        try:
            with NoHostReads():  # type: ignore[no-untyped-call]
                expert.predict_noise(latents, timestep, text)
        except RuntimeError as error:
            raise need.violation("predict_noise of a capturable expert never synchronises", error) from error
    if expert.controls:
        size = (2, expert.controls, 3, *canvas)
        pictures, scales = torch.rand(size, generator=generator()), torch.ones(2, expert.controls)
        text_of = {scale: expert.add_control(text, pictures, scale * scales) for scale in (0.0, 1.0)}
        need(all(len(x) == 2 for x in text_of.values()), "add_control returns one embedding per prompt")
        off, on = (expert.predict_noise(latents, timestep, x) for x in text_of.values())
        need(close(off, noise), "control pictures of scale 0 change nothing")
        need(not close(on, noise), "control pictures of scale 1 change the estimate")
    unguided = expert.predict_noise(latents, timestep, null.expand_as(text))
    need(bool(unguided.isfinite().all()), "predict_noise returns finite values for the empty prompt")

    expert.to(torch.bfloat16)
    half = expert.predict_noise(latents, timestep, expert.encode_text(prompts))
    need(half.dtype == latents.dtype, "predict_noise returns the dtype of the latents after .to(bfloat16)", half.dtype)


def check_codec(codec: LatentCodec, *, canvas: tuple[int, int] = (64, 128)) -> None:
    """Check a `LatentCodec` on a canvas (rows, columns) that it supports."""
    need = Contract(codec, LatentCodec)
    check_component(codec, need)
    shape = codec.latent_shape(canvas)
    need(len(shape) == 3 and all(type(n) is int for n in shape), "latent_shape returns three integers", shape)
    if (factor := canvas[0] // shape[1]) > 1:
        unsupported = canvas[0] + 1, canvas[1]
        try:
            result = codec.latent_shape(unsupported)
        except ValueError as error:
            numbers = {*map(int, re.findall(r"\d+", str(error)))}
            clause = f"the error of latent_shape contains the canvas and the downsampling factor {factor}"
            need(numbers >= {*unsupported, factor}, clause, error)
        else:
            need(False, f"latent_shape raises ValueError if rows are not a multiple of {factor}", result)

    picture = torch.rand(2, 3, *canvas, generator=generator()).requires_grad_()
    latents = codec.encode(picture)
    need(latents.shape == (2, *shape), "encode returns latents of latent_shape", latents.shape)
    need(latents.dtype == picture.dtype, "encode returns the dtype of the picture", latents.dtype)
    need(torch.equal(latents, codec.encode(picture)), "encode is deterministic: it returns the mean")
    (gradient,) = torch.autograd.grad(latents.square().sum(), picture)
    need(bool(gradient.isfinite().all() and gradient.any()), "encode is differentiable")

    latents = latents.detach()
    decoded = codec.decode(latents)
    need(decoded.shape == picture.shape, "decode returns a picture (b, 3, H, W) of the canvas", decoded.shape)
    need(decoded.dtype == latents.dtype, "decode returns the dtype of the latents", decoded.dtype)
    need(within(codec.decode(noise_of(1, *shape) * 100), 0, 1), "decode returns values in [0, 1]")
    singles = torch.cat([codec.decode(z[None]) for z in latents])
    need(close(decoded, singles), "decode of a batch equals that of each sample")


def check_vocoder(vocoder: Vocoder) -> None:
    """Check a `Vocoder`."""
    need = Contract(vocoder, Vocoder)
    check_component(vocoder, need)
    form = vocoder.format
    need(isinstance(form, SpectrogramFormat), "format is a SpectrogramFormat")
    level = torch.rand(2, 3, form.n_mels, 24, generator=generator()) ** 2  # 0 is silence
    log_mel = form.to_log_mel(form.select_channels((level - form.silence).abs()))
    sound = vocoder(log_mel)
    shape = (2, 24 * form.hop_length) if form.channels == 1 else (2, 2, 24 * form.hop_length)
    need(sound.shape == shape, "sound is (b, t * hop_length), in stereo (b, 2, t * hop_length)", sound.shape)
    need(sound.dtype == torch.float32, "sound is float32", sound.dtype)
    need(within(sound, -1, 1), "sound is in [-1, 1]")
    singles = torch.cat([vocoder(x[None]) for x in log_mel])
    need(close(sound, singles), "sound of a batch equals that of each sample")
    for dtype in (torch.bfloat16, torch.float16):
        vocoder.to(dtype)
        need(torch.equal(vocoder(log_mel), sound), f"a vocoder stays in float32 after .to({dtype})")


def check_colorizer(colorizer: Colorizer, *, canvas: tuple[int, int] = (64, 128)) -> None:
    """Check a `Colorizer` on a canvas (rows, columns) that it supports."""
    need = Contract(colorizer, Colorizer)
    check_component(colorizer, need)
    gray = torch.rand(2, 1, *canvas, generator=generator())

    def colorize(rows: Sequence[int]) -> Tensor:
        rgb: Tensor = colorizer(gray[list(rows)], [PROMPTS[row] for row in rows], [generator(row) for row in rows])
        return rgb

    rgb = colorize([0, 1])
    need(rgb.shape == (2, 3, *canvas), "colour is (b, 3, H, W)", rgb.shape)
    need(within(rgb, 0, 1), "colour is in [0, 1]")
    error = float((rgb.mean(1, keepdim=True) - gray).abs().max())
    need(error <= 1 / 255, "the channel mean equals the gray input within 1/255", f"an error of {error:.4f}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        need(torch.equal(rgb, colorize([0, 1])), "the samples' generators are the only source of randomness")
    singles = torch.cat([colorize([0]), colorize([1])])
    need(close(rgb, singles), "colour of a batch equals that of each sample with its own generator")


def check_scorer(scorer: Scorer, *, prompts: Sequence[str] = PROMPTS) -> None:
    """Check a `Scorer` with a visual and an audio prompt, of which it must support the one of its modality."""
    need = Contract(scorer, Scorer)
    check_component(scorer, need)
    need(scorer.modality in NAMES, f"modality is one of {', '.join(NAMES)}", scorer.modality)
    prompt = prompts[NAMES.index(scorer.modality)]
    samples = [_scorer_input(seed, prompt) for seed in range(3)]
    with torch.inference_mode():
        scores = scorer.score(samples)
        need(len(scores) == 3, "score returns one score per sample", len(scores))
        numbers = [score for score in scores if score is not None]
        need(len(numbers) == 3, f"score supports the prompt {prompt!r}", scores)
        need(all(isinstance(score, float) and 0 <= score <= 1 for score in numbers), "scores are in [0, 1]", scores)
        singles = [scorer.score([sample])[0] for sample in samples]
        equal = all(one is not None and abs(one - score) < 1e-3 for one, score in zip(singles, numbers, strict=True))
        need(equal, "scores of a batch equal those of each sample", (scores, singles))
        need(scorer.score(samples) == scores, "score is deterministic")
        need(scorer.score([]) == [], "score returns an empty list for no samples")


def _scorer_input(seed: int, prompt: str) -> ScorerInput:
    """Create an input of noise, whose length depends on the seed, at an unusual sample rate."""
    picture = (torch.rand(64, 96 + 32 * seed, generator=generator(seed)) * 255).round() / 255
    waveform = noise_of(22_050 + 10_000 * seed, seed=seed).clamp(-3, 3) / 4
    return ScorerInput(picture=picture, waveform=waveform, sample_rate=22_050, prompt=prompt)
