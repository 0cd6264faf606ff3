"""The contract suite: checks that a plugin keeps what its interface promises.

A plugin's own tests need no more than

    def test_contract(tmp_path):
        check_plugin(MyExpert, tmp_path)

where `MyExpert.example(folder)` makes a small instance. The AssertionError names what is broken. A check of
one interface can also be called by itself, with any instance on the CPU, prepared and loaded or not.
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
from its.testing.contract import Contract, NoHostReads, check_part, close, generator, noise_of, within
from its.testing.sampling import check_combiner, check_scheduler

__all__ = [
    "check_codec",
    "check_colorizer",
    "check_combiner",
    "check_expert",
    "check_plugin",
    "check_scheduler",
    "check_scorer",
    "check_vocoder",
]

PROMPTS = ("a painting of castle towers, grayscale", "bell ringing")
NAMES = ("visual", "audio")


def check_plugin(cls: type, folder: Path) -> None:
    """Check a plugin class against the contract of its interface, by its `example`.

    Args:
        cls: subclass of one of the interfaces.
        folder: an empty folder, for the example's weights.

    Raises:
        AssertionError: names the plugin and the clause that it breaks.
    """
    checks: dict[str, Callable[[], None]] = {
        "NoiseExpert": lambda: check_expert(_example(cls, folder)),
        "Combiner": lambda: check_combiner(_example(cls, NAMES), NAMES),
        "Scheduler": lambda: check_scheduler(_example(cls)),
        "Vocoder": lambda: check_vocoder(_example(cls, folder)),
        "Colorizer": lambda: check_colorizer(_example(cls, folder)),
        "LatentCodec": lambda: check_codec(_example(cls, folder)),
        "Scorer": lambda: check_scorer(_example(cls, folder)),
    }
    interface = interface_of(cls)
    if interface not in checks:
        raise AssertionError(f"{cls.__name__} is no plugin: it implements none of {', '.join(checks)}")
    checks[interface]()


def check_expert(expert: NoiseExpert, *, canvas: tuple[int, int] = (64, 128), prompts: Sequence[str] = PROMPTS) -> None:
    """Check a `NoiseExpert`, on a canvas that suits its codec, with two prompts that it tells apart."""
    need = Contract(expert, NoiseExpert)
    check_part(expert, need)
    need(isinstance(expert.latent_space, str) and expert.latent_space != "", "latent_space is a name")
    need(
        expert.format is None or isinstance(expert.format, SpectrogramFormat),
        "format is a SpectrogramFormat or None",
    )
    codec = expert.codec()
    need(isinstance(codec, LatentCodec), "codec() gives a LatentCodec")
    codec.prepare()
    latents = noise_of(2, *codec.latent_shape(canvas))
    kept = latents.clone()
    timestep = torch.tensor([801, 201])

    alphas = expert.alphas()
    need(alphas.ndim == 1 and within(alphas, 0, 1), "alphas gives (T,) values in [0, 1]", alphas.shape)
    need(bool((alphas.diff() < 0).all()), "alphas fall: later timesteps are noisier")

    text, null = expert.encode_text(prompts), expert.encode_text([""])
    need(len(text) == len(prompts), "encode_text gives one row a prompt")
    need(null.shape == (1, *text.shape[1:]), "encode_text gives the empty prompt the shape of any other")
    singles = torch.cat([expert.encode_text([prompt]) for prompt in prompts])
    need(close(text, singles), "encode_text of b prompts equals that of each alone")
    need(not close(text[0], text[1]), "encode_text tells prompts apart")

    noise = expert.predict_noise(latents, timestep, text)
    need(noise.shape == latents.shape, "predict_noise gives noise of the latents' shape", noise.shape)
    need(noise.dtype == latents.dtype, "predict_noise gives noise of the latents' dtype", noise.dtype)
    need(bool(noise.isfinite().all()), "predict_noise gives finite noise")
    need(
        not (text.requires_grad or noise.requires_grad),
        "estimates require no gradient where their inputs do not",
    )
    need(torch.equal(latents, kept), "predict_noise leaves the latents as they are")
    need(torch.equal(noise, expert.predict_noise(latents, timestep, text)), "predict_noise has no randomness")
    singles = torch.cat([expert.predict_noise(latents[[i]], timestep[[i]], text[[i]]) for i in range(2)])
    need(
        close(noise, singles),
        "predict_noise of b samples, each with its own timestep, equals that of each alone",
    )
    swapped = expert.predict_noise(latents, timestep, text.flip(0))
    need(not torch.equal(noise, swapped), "predict_noise depends on the text")
    later = expert.predict_noise(latents, timestep.flip(0), text)
    need(not torch.equal(noise, later), "predict_noise depends on the timestep")
    if expert.capturable:
        try:
            with NoHostReads():  # type: ignore[no-untyped-call]
                expert.predict_noise(latents, timestep, text)
        except RuntimeError as error:
            raise need.broken("a capturable expert never waits for the device in predict_noise", error) from error
    unguided = expert.predict_noise(latents, timestep, null.expand_as(text))
    need(bool(unguided.isfinite().all()), "predict_noise takes the null text")

    expert.to(torch.bfloat16)
    half = expert.predict_noise(latents, timestep, expert.encode_text(prompts))
    need(
        half.dtype == latents.dtype,
        "after .to(bfloat16), noise still has the dtype of the latents",
        half.dtype,
    )


def check_codec(codec: LatentCodec, *, canvas: tuple[int, int] = (64, 128)) -> None:
    """Check a `LatentCodec`, on a canvas (rows, columns) that suits it."""
    need = Contract(codec, LatentCodec)
    check_part(codec, need)
    shape = codec.latent_shape(canvas)
    need(
        len(shape) == 3 and all(type(n) is int for n in shape),
        "latent_shape gives three whole numbers",
        shape,
    )
    if (factor := canvas[0] // shape[1]) > 1:
        wrong = canvas[0] + 1, canvas[1]
        try:
            given = codec.latent_shape(wrong)
        except ValueError as error:
            named = {*map(int, re.findall(r"\d+", str(error)))}
            need(
                named >= {*wrong, factor},
                f"the error of latent_shape names the canvas and {factor}, the pixels a latent covers",
                error,
            )
        else:
            need(False, f"latent_shape raises ValueError where rows are no multiple of {factor}", given)

    picture = torch.rand(2, 3, *canvas, generator=generator()).requires_grad_()
    latents = codec.encode(picture)
    need(latents.shape == (2, *shape), "encode gives latents of latent_shape", latents.shape)
    need(latents.dtype == picture.dtype, "encode gives latents of the picture's dtype", latents.dtype)
    need(torch.equal(latents, codec.encode(picture)), "encode gives the mean: it has no randomness")
    (gradient,) = torch.autograd.grad(latents.square().sum(), picture)
    need(bool(gradient.isfinite().all() and gradient.any()), "encode is differentiable")

    latents = latents.detach()
    decoded = codec.decode(latents)
    need(decoded.shape == picture.shape, "decode gives a picture (b, 3, H, W) of the canvas", decoded.shape)
    need(decoded.dtype == latents.dtype, "decode gives a picture of the latents' dtype", decoded.dtype)
    need(within(codec.decode(noise_of(1, *shape) * 100), 0, 1), "decode gives values in [0, 1]")
    singles = torch.cat([codec.decode(one[None]) for one in latents])
    need(close(decoded, singles), "decode of b samples equals that of each alone")


def check_vocoder(vocoder: Vocoder) -> None:
    """Check a `Vocoder`."""
    need = Contract(vocoder, Vocoder)
    check_part(vocoder, need)
    form = vocoder.format
    need(isinstance(form, SpectrogramFormat), "format is a SpectrogramFormat")
    quiet = torch.rand(2, 3, form.n_mels, 24, generator=generator()) ** 2
    log_mel = form.to_log_mel(form.sounding((quiet - form.silence).abs()))
    sound = vocoder(log_mel)
    if form.channels == 1:
        need(sound.shape == (2, 24 * form.hop_length), "sound is (b, t * hop_length)", sound.shape)
    else:
        need(sound.shape == (2, 2, 24 * form.hop_length), "sound in stereo is (b, 2, t * hop_length)", sound.shape)
    need(sound.dtype == torch.float32, "sound is float32", sound.dtype)
    need(within(sound, -1, 1), "sound lies in [-1, 1]")
    singles = torch.cat([vocoder(one[None]) for one in log_mel])
    need(close(sound, singles), "sound of b samples equals that of each alone")
    for dtype in (torch.bfloat16, torch.float16):
        vocoder.to(dtype)
        need(torch.equal(vocoder(log_mel), sound), f"a vocoder stays in float32, also after .to({dtype})")


def check_colorizer(colorizer: Colorizer, *, canvas: tuple[int, int] = (64, 128)) -> None:
    """Check a `Colorizer`, on a canvas (rows, columns) that suits it."""
    need = Contract(colorizer, Colorizer)
    check_part(colorizer, need)
    gray = torch.rand(2, 1, *canvas, generator=generator())

    def color(rows: Sequence[int]) -> Tensor:
        sources = [torch.Generator("cpu").manual_seed(row) for row in rows]
        rgb: Tensor = colorizer(gray[list(rows)], [PROMPTS[row] for row in rows], sources)
        return rgb

    rgb = color([0, 1])
    need(rgb.shape == (2, 3, *canvas), "colour is (b, 3, h, w) of the gray's size", rgb.shape)
    need(within(rgb, 0, 1), "colour lies in [0, 1]")
    error = float((rgb.mean(1, keepdim=True) - gray).abs().max())
    need(
        error <= 1 / 255,
        "the mean over the channels is the gray that was given, within 1/255",
        f"off by {error:.4f}",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(12345)
        need(torch.equal(rgb, color([0, 1])), "random numbers come from the sample's own generator alone")
    singles = torch.cat([color([0]), color([1])])
    need(close(rgb, singles), "colour of b samples equals that of each alone, with its own generator")


def check_scorer(scorer: Scorer, *, prompts: Sequence[str] = PROMPTS) -> None:
    """Check a `Scorer`, with two prompts, the second of which is known to it if it judges sounds, else the first."""
    need = Contract(scorer, Scorer)
    check_part(scorer, need)
    need(scorer.modality in NAMES, f"judges is one of {', '.join(NAMES)}", scorer.modality)
    known = prompts[NAMES.index(scorer.modality)]
    samples = [_judged(seed, known) for seed in range(3)]
    with torch.inference_mode():
        scores = scorer.score(samples)
        need(len(scores) == 3, "score gives one score a sample", len(scores))
        numbers = [score for score in scores if score is not None]
        need(len(numbers) == 3, f"it can say something of the prompt {known!r}", scores)
        need(all(isinstance(score, float) and 0 <= score <= 1 for score in numbers), "scores lie in [0, 1]", scores)
        singles = [scorer.score([sample])[0] for sample in samples]
        alike = all(one is not None and abs(one - score) < 1e-3 for one, score in zip(singles, numbers, strict=True))
        need(alike, "scores of b samples equal those of each alone", (scores, singles))
        need(scorer.score(samples) == scores, "score has no randomness")
        need(scorer.score([]) == [], "score of no samples is empty")


def _judged(seed: int, prompt: str) -> ScorerInput:
    """Noise of no particular length, at a rate that nobody works in."""
    picture = (torch.rand(64, 96 + 32 * seed, generator=generator(seed)) * 255).round() / 255
    waveform = noise_of(22_050 + 10_000 * seed, seed=seed).clamp(-3, 3) / 4
    return ScorerInput(picture=picture, waveform=waveform, sample_rate=22_050, prompt=prompt)


def _example(cls: type, *source: Path | Sequence[str]) -> Any:  # of the interface it implements
    return cls.example(*source)  # type: ignore[attr-defined]
