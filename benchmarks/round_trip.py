"""Measure the loss from sound to picture and back: `python benchmarks/round_trip.py [--iterations 8 32 128]`.

Synthetic sounds of 4 s are converted to spectrograms in each format, then to 8-bit pictures, and vocoded by
Griffin-Lim. Sounds louder than a format's ceiling are attenuated first. The figure is the spectral convergence: the
norm of the error of the mel magnitudes over the norm of the original ones.
"""

from __future__ import annotations

import argparse
import math
import time

import torch
from torch import Tensor

from its.audio.spectrogram import AUFFUSION, SpectrogramFormat
from its_plugins.experts.riffusion import RIFFUSION
from its_plugins.vocoders.griffin_lim import GriffinLim


def bells(s: Tensor) -> Tensor:
    """Three strikes of four decaying partials."""
    partials = ((440, 0.2), (587, 0.12), (1100, 0.1), (2217, 0.06))
    strikes = [(s - at, f, loud) for at in (0.1, 1.3, 2.5) for f, loud in partials]
    return torch.stack([loud * pluck(since, 3) * (math.tau * f * since).sin() for since, f, loud in strikes]).sum(0)


def chirp(s: Tensor) -> Tensor:
    """A linear chirp from 300 Hz to 5900 Hz."""
    return 0.3 * (math.tau * (300 * s + 700 * s**2)).sin()


def noise(s: Tensor) -> Tensor:
    """White noise."""
    return 0.1 * torch.randn(s.shape, generator=torch.Generator().manual_seed(0), dtype=s.dtype)


def strokes(s: Tensor) -> Tensor:
    """Clicks of half a millisecond, five per second."""
    return 0.8 * ((s % 0.2 > 0.1) & (s % 0.2 < 0.1005)) * torch.where(torch.arange(len(s)) % 2 == 0, 1.0, -1.0)


def music(s: Tensor) -> Tensor:
    """Four chords of four notes with six partials each, two per second, over a noisy drum."""
    sound = 0.15 * pluck(s % 0.25, 60) * noise(s) / 0.1
    for beat in range(8):
        at, root = beat / 2, (220.0, 174.6, 261.6, 196.0)[beat % 4]
        for note in (1, 5 / 4, 3 / 2, 2):
            for n in range(1, 7):
                sound = sound + 0.04 / n * pluck(s - at, 2.5) * (math.tau * root * note * n * (s - at)).sin()
    return sound


def pluck(s: Tensor, rate: float) -> Tensor:
    """An envelope that starts at 0 and decays exponentially."""
    return (-rate * s.clamp(min=0)).exp() * (s >= 0)


def convergence(form: SpectrogramFormat, sound: Tensor, target: Tensor) -> float:
    """Compute the spectral convergence of a sound (1, n) to a log-mel spectrogram (1, f, t)."""
    error = form.log_mel(sound).exp() - target.exp()
    return float(error.norm() / target.exp().norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterations", type=int, nargs="+", default=[32])
    counts = parser.parse_args().iterations
    torch.set_num_threads(1)
    print("| format | iterations | bells | chirp | noise | strokes | music | seconds for each second |")
    print("|---|---|---|---|---|---|---|---|")
    for form in (AUFFUSION, RIFFUSION):
        for iterations in counts:
            vocoder = GriffinLim(format=form, iterations=iterations)
            vocoder.load()
            figures, begin = [], time.process_time()
            for make in (bells, chirp, noise, strokes, music):
                columns = 4 * form.sample_rate // form.hop_length
                s = torch.arange(columns * form.hop_length, dtype=torch.float64) / form.sample_rate
                sound = make(s).float()[None]
                loudest = form.log_mel(sound).max().exp()
                target = form.log_mel(sound * (form.ceiling / loudest).clamp(max=1))
                picture = (form.to_picture(target).clamp(0, 1) * 255).round() / 255
                figures.append(f"{convergence(form, vocoder(form.to_log_mel(picture)), target):.3f}")
            seconds = (time.process_time() - begin) / 20
            print(f"| {form.name} | {iterations} | {' | '.join(figures)} | {seconds:.2f} |", flush=True)


if __name__ == "__main__":
    main()
