"""Measure features of the pack's sounds: `python -m its_plugins.mini.training.measure --run RUN --out FILE.json`.

Each class has its own figures. They are measured on held-out clips, on samples of the audio expert alone and on the
composed samples of a run. Waveforms are (n,) at 16 kHz; frequencies are in Hz.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from scipy import ndimage, signal

from its.runs.reader import SOUND, complete_samples
from its_plugins.mini.captions import AUDIO, classes
from its_plugins.mini.training import loop, sampling, search
from its_plugins.mini.training.sounds import RATE, clip

Array = NDArray[np.float64]
HOP = 160
FRAMES = RATE / HOP  # per second


def spectrum(sound: Array, window: int = 1024) -> tuple[Array, Array]:
    """Compute frequencies (k,) and magnitudes (k, t), with a hop of 10 ms."""
    frequencies, _, frames = signal.stft(sound, RATE, nperseg=window, noverlap=window - HOP)
    return frequencies, np.abs(frames)


def strikes(sound: Array) -> NDArray[np.int64]:
    """Detect onsets: frames of peaks in the mean rise of the log spectrum, above a third of the highest peak."""
    _, magnitude = spectrum(sound, 512)
    level = 20 * np.log10(magnitude + 1e-3 * magnitude.max())
    rise = ndimage.gaussian_filter1d(np.maximum(np.diff(level, axis=1), 0).mean(0), 1)
    return signal.find_peaks(rise, height=rise.max() / 3, distance=int(0.1 * FRAMES))[0]


def onsets(sound: Array) -> float:
    """Return the number of onsets per second."""
    return len(strikes(sound)) * RATE / len(sound)


def inharmonicity(sound: Array) -> float:
    """Measure the partials added by strikes outside of any harmonic series (within 1.2 %), in % of amplitude.

    The result is the median over strikes, each with the best fundamental from 100 to 700 Hz.
    """
    window, shares = int(0.25 * RATE), []
    for start in strikes(sound) * HOP:
        before, after = (sound[at : at + window] for at in (start - window - 400, start + 400))
        if start < window + 400 or len(after) < window:
            continue
        shape = signal.windows.hann(window)
        added = np.abs(np.fft.rfft(after * shape, 4 * window)) - np.abs(np.fft.rfft(before * shape, 4 * window))
        peaks, _ = signal.find_peaks(added, height=0.03 * added.max(), distance=60)
        tones, weights = peaks * RATE / (4 * window), added[peaks]
        ratio = tones[None] / np.geomspace(100, 700, 800)[:, None]
        near = (np.abs(ratio - ratio.round()) < 0.012 * ratio) & (ratio.round() >= 1) & (ratio < 16)
        shares.append(1 - (near * weights).sum(1).max() / weights.sum())
    return 100 * float(np.median(shares)) if shares else float("nan")


def pulse_rate(sound: Array, low: float, high: float) -> float:
    """Find the frequency of the strongest loudness modulation between `low` and `high`, in Hz."""
    frames = np.sqrt((sound[: len(sound) // 80 * 80].reshape(-1, 80) ** 2).mean(1)) + 1e-5  # 200 per second
    swell = ndimage.gaussian_filter1d(frames, 20)
    frequencies, power = signal.welch(frames / swell - 1, 200, nperseg=400)
    band = (frequencies >= low) & (frequencies <= high)
    return float(frequencies[band][power[band].argmax()])


def glide(sound: Array, low: float, high: float) -> float:
    """Measure the glide of the strongest line between `low` and `high`: highest over lowest frequency in an event.

    Events are at least 0.25 s long; the result is their median.
    """
    frequencies, magnitude = spectrum(sound, 2048)
    band = (frequencies >= low) & (frequencies <= high)
    line, level = frequencies[band][magnitude[band].argmax(0)], magnitude[band].max(0)
    events, count = ndimage.label(level > 0.15 * level.max())
    spans = [line[events == index] for index in range(1, count + 1)]
    ratios = [np.quantile(span, 0.95) / np.quantile(span, 0.05) for span in spans if len(span) > 0.25 * FRAMES]
    return float(np.median(ratios)) if ratios else float("nan")


def doppler_fall(sound: Array) -> float:
    """Divide the pitch 0.4 to 1.25 s before the loudest moment by the pitch 0.4 to 1.25 s after it."""
    frequencies, magnitude = spectrum(sound, 4096)
    loudness = ndimage.gaussian_filter1d((magnitude**2).sum(0), 15)
    margin, near = int(1.25 * FRAMES), int(0.4 * FRAMES)
    moment = margin + int(loudness[margin:-margin].argmax())
    octaves = np.arange(np.log2(150), np.log2(3000), 1 / 96)
    rows = []
    for part in (magnitude[:, moment - margin : moment - near], magnitude[:, moment + near : moment + margin]):
        row = np.interp(2**octaves, frequencies, 20 * np.log10(part.mean(1) + 1e-8))
        rows.append(row - ndimage.gaussian_filter1d(row, 24))
    shifts = np.arange(-10, 80)
    matches = [float((np.roll(rows[1], shift) * rows[0])[100:-100].sum()) for shift in shifts]
    return float(2 ** (shifts[int(np.argmax(matches))] / 96))


def steadiness(sound: Array) -> float:
    """Measure the share of power in lines of constant frequency for at least 0.3 s, in %."""
    _, magnitude = spectrum(sound, 2048)
    power = magnitude**2
    return float(100 * ndimage.minimum_filter1d(power, int(0.3 * FRAMES), axis=1).sum() / power.sum())


def flatness(sound: Array) -> float:
    """Compute the spectral flatness between 200 Hz and 4 kHz: geometric over arithmetic mean, 1 for white noise."""
    frequencies, magnitude = spectrum(sound)
    power = (magnitude[(frequencies > 200) & (frequencies < 4000)] ** 2).mean(1) + 1e-12
    return float(np.exp(np.log(power).mean()) / power.mean())


def mean_frequency(sound: Array) -> float:
    """Compute the power-weighted mean frequency."""
    frequencies, magnitude = spectrum(sound)
    power = (magnitude**2).mean(1)
    return float((frequencies * power).sum() / power.sum())


FIGURES: dict[str, dict[str, Callable[[Array], float]]] = {
    "bell": {"strikes a second": onsets, "inharmonic %": inharmonicity},
    "bark": {"bursts a second": onsets},
    "meow": {"glide, highest over lowest": partial(glide, low=250, high=1000)},
    "chirp": {"mean frequency": mean_frequency, "notes a second": onsets},
    "growl": {"rolls a second": partial(pulse_rate, low=5, high=40), "mean frequency": mean_frequency},
    "car": {"fall of pitch in passing": doppler_fall},
    "whistle": {"held lines %": steadiness},
    "fireworks": {"bangs a second": onsets},
    "cheering": {"flatness": flatness},
    "guitar": {"plucks a second": onsets, "inharmonic %": inharmonicity},
    "neigh": {"shakes a second": partial(pulse_rate, low=5, high=20)},
    "frog": {"pulses a second": partial(pulse_rate, low=8, high=45)},
}


def table(sounds: dict[str, list[Array]], ranges: dict[str, dict[str, tuple[float, float]]]) -> dict:
    """Tabulate each figure of each class: its median, and the share of sounds within the range of clips, in %.

    Sounds without a figure (NaN) are ignored in the median.
    """
    results: dict[str, dict] = {}
    for name, rows in sounds.items():
        results[name] = {}
        for figure, measure in FIGURES[name].items():
            values, (low, high) = [measure(row) for row in rows], ranges[name][figure]
            within = np.mean([low <= value <= high for value in values])
            median = float(np.nanmedian(values)) if np.isfinite(values).any() else None
            results[name][figure] = {"median": median, "within %": round(100 * float(within))}
    return results


def reference_clips(count: int, seed: int = 29_000) -> dict[str, list[Array]]:
    """Synthesise clips with seeds that are not used for training."""
    return {
        name: [clip(name, np.random.default_rng([seed + index, *name.encode()])) for index in range(count)]
        for name in FIGURES
    }


def ranges(sounds: dict[str, list[Array]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Compute the 5 % and 95 % quantiles of each class's figures."""
    return {
        name: {
            figure: tuple(np.nanquantile([measure(row) for row in rows], (0.05, 0.95)))
            for figure, measure in FIGURES[name].items()
        }
        for name, rows in sounds.items()
    }


def sounds_of_expert(pack: sampling.Pack, seeds: list[int]) -> dict[str, list[Array]]:
    """Sample waveforms of the audio expert alone from the first phrase of each class, one for each seed."""
    sounds: dict[str, list[Array]] = {}
    for name, concept in AUDIO.items():
        gray = sampling.sample_alone(pack, "audio", concept.phrases[0], seeds)
        sounds[name] = [row.double().cpu().numpy() for row in sampling.play(gray)]
    return sounds


def sounds_of_run(run: Path) -> dict[str, list[Array]]:
    """Read the waveforms of a run's samples, by the first class in the audio prompt."""
    sounds: dict[str, list[Array]] = {}
    for sample in complete_samples([run]):
        for name in classes("audio", sample.prompt("audio"))[:1]:
            sounds.setdefault(name, []).append(soundfile.read(sample.require(SOUND), dtype="float64")[0])
    return sounds


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Measure characteristics of the pack's sounds.")
    parser.add_argument("--run", type=Path, required=True, help="a run directory of `its predict`")
    parser.add_argument("--pack", type=Path, default=Path(__file__).parents[1] / "weights")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the results")
    parser.add_argument("--seeds", type=int, default=4, help="samples of each class by the audio expert alone")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    options = parser.parse_args()
    pack = sampling.load(options.pack, loop.device(options.device))
    seeds = list(range(search.FRESH, search.FRESH + options.seeds))
    clips = reference_clips(40)
    limits = ranges(clips)
    sorts = {"clips": clips, "expert alone": sounds_of_expert(pack, seeds), "composed": sounds_of_run(options.run)}
    results = json.dumps(
        {"range of clips": limits, **{sort: table(sounds, limits) for sort, sounds in sorts.items()}}, indent=1
    )
    options.out.write_text(results + "\n")
    print(results)


if __name__ == "__main__":
    main()
