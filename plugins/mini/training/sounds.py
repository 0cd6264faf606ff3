"""Synthetic training sounds: small physical models with random parameters.

Every model is an excitation (strikes, pulses, harmonics, noise) of a resonance (modes, formants, a string), repeated
over the clip. `clip` adds the reverberation and the soft noise floor of a room. Clips are mono, 16 kHz and 10.24 s
long; lengths n are in samples, frequencies in Hz, durations in seconds.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from scipy import signal
from scipy.interpolate import PchipInterpolator

RATE = 16_000  # samples per second
LENGTH = 163_840  # samples in a clip
SPEED_OF_SOUND = 343.0  # metres per second

Array = np.ndarray


def clip(name: str, rng: Generator) -> Array:
    """Synthesise a clip of class `name`, float32 (163840,): a sound with a peak of 0.5 to 0.9 in a room."""
    sound = _room(SOUNDS[name](rng), rng)
    sound *= rng.uniform(0.5, 0.9) / np.abs(sound).max()
    return np.clip(sound + _floor(rng), -1, 1).astype(np.float32)


# --- The classes ---


def bell(rng: Generator) -> Array:
    """One to three bells, each struck every 1 to 2.6 s: inharmonic modes from the hum (half the prime) upwards.

    The prime is 230 to 620 Hz. A strike starts all modes at once, with the clapper's knock. High modes decay by 60 dB
    in half a second to a second, the hum in up to 8 s. Each mode is a doublet split by up to 1.5 Hz, which beats.
    """
    prime, count = rng.uniform(230, 420), rng.integers(1, 4)
    pitches = rng.permutation([1, rng.uniform(1.2, 1.3), rng.uniform(1.4, 1.5)])[:count]
    return sum(_bell(rng, prime * pitch, rng.uniform(0.8, 1.3) * (0.7 + 0.4 * count)) for pitch in pitches)


def bark(rng: Generator) -> Array:
    """Two or three dogs of different sizes: bursts of 0.12 to 0.3 s, harmonics and noise through formants.

    The pitch (180 to 650 Hz) rises fast and falls within each burst.
    """

    def dog(size: float) -> Array:
        pitch, duration = 620 / size**1.2, rng.uniform(0.8, 1.1) * (0.12 + 0.05 * size)

        def burst() -> Array:
            n = _samples(rng, duration * 0.9, duration * 1.2)
            top = pitch * rng.uniform(0.92, 1.1)
            source = _tone(_path(top * np.array([0.7, 1, 0.95, 0.6]), n), 0.9, rng)
            source += 0.25 * _noise(n, 0.2, rng)
            open_mouth = np.array([[500, 900, 600], [1300, 1900, 1400], [2900, 3300, 3000], [4800, 5200, 5000]])
            return _envelope(n, 0.012, 0.09) * _formants(source, open_mouth / size**0.5)

        return rng.uniform(0.5, 1) * _scatter(rng, burst, (0.08, 0.9))

    sizes = rng.permutation(np.linspace(1, 2.4, 4))[: rng.integers(2, 4)]
    return sum(dog(size * rng.uniform(0.9, 1.1)) for size in sizes)


def meow(rng: Generator) -> Array:
    """One or two kittens: glides of 0.6 to 1.5 s, the pitch rising then falling within 350 to 900 Hz.

    The first formant moves from 700 up to 1300 Hz and back, as the mouth opens and closes.
    """

    def kitten(pitch: float) -> Array:
        def call() -> Array:
            n = _samples(rng, 0.6, 1.5)
            shape = np.array([rng.uniform(0.65, 0.75), 0.95, 1, 0.9, rng.uniform(0.55, 0.7)])
            source = _tone(_path(pitch * rng.uniform(0.92, 1.08) * shape, n), 0.7, rng)
            source += 0.02 * _noise(n, 0, rng)
            mouth = np.array([[700, 1300, 900], [1700, 2500, 1500], [3600, 4100, 3400], [5800, 6200, 5600]])
            return _envelope(n, 0.12, 0.25) * _formants(source, mouth * rng.uniform(0.9, 1.1), leak=0.1)

        return rng.uniform(0.6, 1) * _scatter(rng, call, (0.1, 0.8))

    return sum(kitten(rng.uniform(*band)) for band in [(720, 900), (500, 620), (600, 760)][: rng.integers(1, 3)])


def chirp(rng: Generator) -> Array:
    """Three to five birds of four sorts, each with its own song, with pauses of 0.2 to 1.2 s between phrases.

    A whistler's phrases are three to six different glides of 0.1 to 0.3 s (1.2 to 3.5 kHz), a triller's 10 to 20
    falling sweeps per second (3 to 6 kHz), a tweeter's two to five chevrons (3 to 6.5 kHz), and a caller's two notes,
    the second lower (0.7 to 1.4 kHz).
    """

    def note(points: Array, seconds: float) -> Array:
        n = int(seconds * RATE)
        return _envelope(n, 0.012, 0.03) * _tone(_path(points * rng.uniform(0.98, 1.02), n), 2.5, rng)

    def song(notes: list[tuple[Array, float]], pause: float) -> Array:
        gaps = [np.zeros(int(rng.uniform(0.7, 1.3) * pause * RATE)) for _ in notes]
        return np.concatenate(
            [part for (points, seconds), gap in zip(notes, gaps, strict=True) for part in (note(points, seconds), gap)]
        )

    def whistler() -> Callable[[], Array]:
        centre = rng.uniform(1300, 2900)
        notes = [
            (centre * np.exp(rng.uniform(-0.22, 0.22, rng.integers(2, 4))), rng.uniform(0.1, 0.3))
            for _ in range(rng.integers(3, 7))
        ]
        return lambda: song(notes, 0.06)

    def triller() -> Callable[[], Array]:
        top, rate = rng.uniform(3800, 6000), rng.uniform(10, 20)
        sweep = top * np.array([1, rng.uniform(0.7, 0.85), rng.uniform(0.55, 0.7)])
        return lambda: song([(sweep, 0.65 / rate)] * int(rate * rng.uniform(0.5, 1.1)), 0.35 / rate)

    def tweeter() -> Callable[[], Array]:
        low, seconds = rng.uniform(2900, 4300), rng.uniform(0.07, 0.14)
        chevron = low * np.array([1, rng.uniform(1.25, 1.5), rng.uniform(0.9, 1.1)])
        return lambda: song([(chevron, seconds)] * rng.integers(2, 6), 0.08)

    def caller() -> Callable[[], Array]:
        high = rng.uniform(850, 1400)
        notes = [(high * np.array([0.97, 1, 0.98]), 0.22), (high * np.array([0.82, 0.8, 0.78]), 0.32)]
        return lambda: song(notes, 0.1)

    kinds = [whistler, caller, *rng.permutation([triller, tweeter, whistler, triller])[: rng.integers(1, 4)]]
    birds = [(rng.uniform(0.5, 1), kind()) for kind in kinds]
    return sum(level * _scatter(rng, sing, (0.2, 1.2)) for level, sing in birds)


def growl(rng: Generator) -> Array:
    """One or two large animals: pulses at 45 to 110 Hz, rolling 9 to 16 times per second, in swells of 1.2 to 3 s.

    Pulses and breath pass through slowly moving formants of a large throat, mostly below 1.5 kHz.
    """

    def beast() -> Array:
        pitch, roll = rng.uniform(60, 100), rng.uniform(9, 15)

        def swell() -> Array:
            n = _samples(rng, 1.2, 3)
            rise = _path(np.array([0.1, 0.55, 1, rng.uniform(0.7, 1), 0.5, 0.1]), n)
            f0 = pitch * (0.75 + 0.4 * rise) * _path(rng.uniform(0.98, 1.02, n // 800), n)
            cycles = np.cumsum(f0) / RATE
            pulses = np.diff(np.floor(cycles), prepend=0) * rng.uniform(0.7, 1, n)
            rolling = np.abs(np.cos(np.pi * np.cumsum(roll * (0.8 + 0.3 * rise)) / RATE)) ** 4
            source = (9 * pulses + 0.13 * _noise(n, 0.3, rng)) * (0.03 + rolling)
            throat = np.outer([260, 620, 1250, 2300, 3600], np.ones(4)) * rng.uniform(0.8, 1.25, (5, 4))
            return rise**1.5 * _envelope(n, 0.2, 0.3) * _formants(source, throat, tilt=0.7)

        return rng.uniform(0.7, 1) * _scatter(rng, swell, (-0.2, 0.6))

    return beast() + rng.choice([0, 0.4]) * beast()


def car(rng: Generator) -> Array:
    """Two to four race cars that pass at 45 to 85 m/s, 5 to 12 m away: engine harmonics, tyres and wind.

    The engine fires 110 to 320 times per second. The pitch falls by a quarter to a half as a car passes (Doppler
    effect). The amplitude is proportional to one over the distance, and distance attenuates high frequencies.
    """

    def passing(moment: float) -> Array:
        speed, aside, fires = rng.uniform(45, 85), rng.uniform(5, 12), rng.uniform(110, 320)
        along = speed * (np.arange(LENGTH) / RATE - moment)
        distance = np.hypot(along, aside)
        doppler = 1 / (1 + speed * along / distance / SPEED_OF_SOUND)
        bright, dull = (
            _tone(fires * doppler * _path(rng.uniform(0.97, 1.03, 5), LENGTH), tilt, rng) for tilt in (0.5, 1.3)
        )
        near = 1 / (1 + distance / 40)
        tyres = _formants(_noise(LENGTH, 0.3, rng), np.array([[700], [1600]]), leak=0.15)
        return (near * bright + (1 - near) * dull + 0.5 * near * tyres) / (distance + 4)

    count = rng.integers(2, 5)
    return sum(passing((i + rng.uniform(0.3, 0.7)) * LENGTH / RATE / count) for i in range(count))


def whistle(rng: Generator) -> Array:
    """A steam whistle: blasts of 1 to 4 s of a chord of 3 to 5 harmonic-rich tones and hissing steam.

    The lowest tone is 230 to 420 Hz. Each blast starts up to a tenth below its pitch.
    """
    chord = np.array([[1, 1.19, 1.5, 1.78, 2.24], [1, 1.26, 1.5, 1.68, 2], [1, 1.2, 1.41, 1.68, 2.1]])[rng.integers(3)]
    chord = rng.uniform(230, 420) * chord[: rng.integers(3, 6)]

    def blast() -> Array:
        n = _samples(rng, 1, 4)
        time = np.arange(n) / RATE
        scoop = 1 - rng.uniform(0.04, 0.1) * np.exp(-time / 0.12) - 0.08 * np.exp((time - time[-1]) / 0.1)
        tones = sum(rng.uniform(0.6, 1) * _tone(tone * scoop, 0.9, rng) for tone in chord)
        steam = _formants(_noise(n, 0.2, rng), np.array([[900], [2200], [4500]]), leak=0.2)
        return _envelope(n, 0.08, 0.2) * (tones + 0.12 * steam)

    return _scatter(rng, blast, (0.15, 0.7))


def fireworks(rng: Generator) -> Array:
    """Two batteries of rockets: a rising whistle (0.7 to 3 kHz), a boom of 0.3 to 1 s, and crackling stars."""

    def rocket() -> Array:
        rising, n = _samples(rng, 0.4, 1.2), _samples(rng, 1.2, 2.4)
        whistling = _tone(_path(rng.uniform(700, 1300) * np.array([1, 1.5, rng.uniform(2, 2.4)]), rising), 2, rng)
        time = np.arange(n) / RATE
        boom = _noise(n, 0.8, rng) * np.exp(-time / rng.uniform(0.08, 0.25))
        stars = _crackle(n, rng.uniform(15, 50), rng) * _path(np.array([0, 0.5, 1, 0.6, 0]), n)
        return np.concatenate([0.25 * _envelope(rising, 0.1, 0.05) * whistling, 1.5 * boom + 0.25 * stars])

    return sum(rng.uniform(0.5, 1) * _scatter(rng, rocket, (-0.6, 0.5)) for _ in range(2))


def cheering(rng: Generator) -> Array:
    """A crowd: a roar through vowel formants, six voices of shouts and whoops, and applause.

    Shouts glide at 250 to 650 Hz, whoops jump up to 1.2 kHz.
    """

    def shout() -> Array:
        n = _samples(rng, 0.4, 1.3)
        whoop = rng.random() < 0.4
        shape = [0.45, 0.9, 1, 0.9] if whoop else [0.75, 1, rng.uniform(0.9, 1.05), 0.7]
        pitch = (rng.uniform(650, 1200) if whoop else rng.uniform(280, 620)) * np.array(shape)
        vowel = np.array([[500, 850], [1300, 1700], [2700, 2900], [3800, 3900]]) * rng.uniform(0.9, 1.15)
        return rng.uniform(0.3, 1) * _envelope(n, 0.08, 0.25) * _formants(_tone(_path(pitch, n), 0.8, rng), vowel)

    roar = _formants(_noise(LENGTH, 0.3, rng), rng.uniform(0.85, 1.15, (4, 6)) * [[600], [1200], [2600], [3600]])
    swell = _path(rng.uniform(0.4, 1, 6), LENGTH)
    applause = _crackle(LENGTH, rng.uniform(60, 160), rng)
    shouts = sum(_scatter(rng, shout, (-0.2, 0.8)) for _ in range(6))
    return swell * (0.6 * roar + 0.5 * applause) + rng.uniform(0.8, 1.2) * shouts


def guitar(rng: Generator) -> Array:
    """A plucked steel string (Karplus-Strong in the frequency domain), a note every 0.15 to 0.7 s, 80 to 500 Hz.

    Notes of a pentatonic scale ring for up to 3 s, high harmonics shorter. The position of the pluck attenuates some
    harmonics.
    """
    scale = rng.uniform(80, 125) * 2 ** (np.array([0, 3, 5, 7, 10, 12, 15, 17, 19, 22, 24]) / 12)
    tempo, place, n = rng.uniform(0.15, 0.55), rng.uniform(0.12, 0.3), 4 * RATE
    frequency = np.fft.rfftfreq(n, 1 / RATE)

    def note() -> Array:
        pitch = rng.choice(scale)
        ringing = rng.uniform(1.5, 3) / (1 + (frequency / 2500) ** 1.5)
        loop = np.exp(-6.9 / (ringing * pitch) - 2j * np.pi * frequency / pitch)
        pluck = (1 - np.exp(-2j * np.pi * frequency * place / pitch)) / (1 + frequency / 900)
        string = np.fft.irfft(pluck / (1 - loop) * (frequency > 50), n)
        return rng.uniform(0.5, 1) * _envelope(n, 0.002, 0.1) * string

    return _scatter(rng, note, (tempo - 4, 1.3 * tempo - 4))


def frog(rng: Generator) -> Array:
    """A pond of three to five frogs: croaks of 0.2 to 0.6 s, pulsed 14 to 35 times per second, in formant pairs.

    Large frogs croak at 350 Hz, small ones at up to 2.5 kHz.
    """

    def pond(size: float) -> Array:
        pulse, duration, pause = (rng.uniform(14, 35), rng.uniform(0.2, 0.6), rng.uniform(0.15, 0.5))
        throat = np.array([[350, 420, 380], [1050, 1250, 1100], [2500, 2700, 2500]]) * size

        def croak() -> Array:
            n = _samples(rng, duration * 0.9, duration * 1.1)
            source = _tone(_path(pulse * np.array([0.8, 1, 1.1]), n), 0, rng, aligned=True)
            source += 0.1 * _noise(n, 0.2, rng)
            return _envelope(n, 0.04, 0.06) * _formants(source, throat, width=0.09, leak=0.02)

        return rng.uniform(0.4, 1) * _scatter(rng, croak, (pause, pause * 1.5))

    sizes = np.geomspace(0.9, 5, rng.integers(3, 6))
    return sum(pond(size * rng.uniform(0.9, 1.1)) for size in sizes)


def neigh(rng: Generator) -> Array:
    """One or two horses: whinnies of 1.2 to 2.4 s that jump to 900 to 1500 Hz and fall to a third.

    Pitch and loudness shake at 8 to 13 Hz, increasingly towards the end. A whinny ends with a snort, lips fluttering at
    18 to 28 Hz.
    """

    def horse(top: float) -> Array:
        def whinny() -> Array:
            n, shake = _samples(rng, 1.2, 2.4), rng.uniform(8, 13)
            glide = top * rng.uniform(0.92, 1.08) * np.array([0.5, 0.95, 1, 0.86, 0.68, 0.5, 0.36])
            depth = _path(np.array([0.1, 0.4, 0.8, 1]), n)
            cycle = np.cos(2 * np.pi * np.cumsum(shake * _path(rng.uniform(0.9, 1.1, 5), n)) / RATE)
            source = _tone(_path(glide, n) * (1 + 0.07 * depth * cycle), 0.7, rng) + 0.12 * _noise(n, 0.1, rng)
            throat = np.array([[800, 1100, 900], [1700, 2200, 1600], [3100, 3500, 2800], [5000, 5400, 4600]])
            voice = _envelope(n, 0.05, 0.25) * (1 - 0.42 * depth * (1 - cycle)) * _formants(source, throat, leak=0.12)
            return np.concatenate([voice, np.zeros(_samples(rng, 0.1, 0.3)), 0.5 * snort()])

        def snort() -> Array:
            n = _samples(rng, 0.4, 0.8)
            flutter = np.abs(np.cos(np.pi * np.cumsum(np.full(n, rng.uniform(18, 28))) / RATE))
            breath = _formants(_noise(n, 0.2, rng), np.array([[500], [1500], [3000]]))
            return _envelope(n, 0.03, 0.3) * flutter**2 * breath

        return rng.uniform(0.6, 1) * _scatter(rng, whinny, (0.0, 0.7))

    return sum(horse(rng.uniform(*band)) for band in [(1150, 1500), (900, 1100)][: rng.integers(1, 3)])


def _single(model: Callable[[Generator], Array]) -> Callable[[Generator], Array]:
    return lambda rng: model(rng).astype(np.float32)


SOUNDS: dict[str, Callable[[Generator], Array]] = {
    model.__name__: _single(model)
    for model in (bell, bark, meow, chirp, growl, car, whistle, fireworks, cheering, guitar, neigh, frog)
}
"""Models of dry sounds by class, at any level, float32 (163840,)."""


# --- Excitations ---


def _tone(f0: Array, tilt: float, rng: Generator, aligned: bool = False) -> Array:
    """Synthesise a tone along the pitch curve f0, with all harmonics up to 8 kHz, the k-th at amplitude k**-tilt.

    One period is read at twice the sample rate, so that the pitch may rise threefold without aliasing. If `aligned`,
    the harmonics are in phase and form pulses.
    """
    order = np.arange(1, max(2, int(RATE / 2 / f0.min()) + 1))
    phases = np.zeros(len(order)) if aligned else rng.uniform(0, 2 * np.pi, len(order))
    spectrum = np.zeros(2049, complex)
    spectrum[order] = 1 / order**tilt * np.exp(1j * phases)
    period = np.fft.irfft(spectrum) * 2048 / np.sqrt(np.sum(1 / order ** (2 * tilt)))
    cycles = np.cumsum(np.repeat(f0, 2)) / (2 * RATE)
    return signal.resample_poly(np.take(period, (cycles * 4096).astype(int) % 4096), 1, 2)


def _noise(n: int, tilt: float, rng: Generator) -> Array:
    """Draw noise of unit power with an amplitude of frequency**-tilt above 60 Hz (0 white, 0.5 pink)."""
    spectrum = np.fft.rfft(rng.standard_normal(n))
    spectrum *= np.maximum(np.fft.rfftfreq(n, 1 / RATE), 60) ** -tilt
    noise = np.fft.irfft(spectrum, n)
    return noise / noise.std()


def _crackle(n: int, density: float, rng: Generator) -> Array:
    """Draw noisy clicks (about 8 ms) of random strength at random times, `density` per second."""
    clicks = (rng.random(n) < density / RATE) * rng.exponential(1.0, n)
    return rng.standard_normal(n) * signal.oaconvolve(clicks, np.exp(-np.arange(600) / 90))[:n]


# --- Resonances ---


def _bell(rng: Generator, prime: float, interval: float) -> Array:
    """Synthesise a bell, struck about every `interval` seconds. Each mode is a pair of resonators."""
    ratios = np.array([0.5, 1, 1.2, 1.5, 2, 2.51, 2.66, 3.01, 4.17, 5.43, 6.8, 8.2, 9.7, 11.4, 13.2])
    strengths = np.array([0.45, 0.7, 0.9, 0.5, 1, 0.6, 0.6, 0.8, 0.7, 0.55, 0.45, 0.35, 0.3, 0.25, 0.2])
    strikes, modes = np.zeros(LENGTH), prime * ratios
    times = np.arange(rng.uniform(0, 1) * interval, LENGTH / RATE - 0.1, interval)
    times += rng.uniform(0, 0.08, len(times))
    strikes[(times * RATE).astype(int)] = rng.uniform(0.6, 1, len(times))
    knock = _noise(1200, 0.15, rng) * np.exp(-np.arange(1200) / rng.uniform(100, 250))
    sound = rng.uniform(0.2, 0.45) * signal.oaconvolve(strikes, knock)[:LENGTH]
    for ratio, mode, strength in zip(ratios, modes, strengths * rng.uniform(0.6, 1.2, len(modes)), strict=True):
        if mode > 7_500:
            break
        decay = np.exp(-6.9 / RATE / (rng.uniform(4.5, 6.5) * ratio**-0.75))
        for frequency in mode + rng.uniform(-0.75, 0.75, 2):
            angle = 2 * np.pi * frequency / RATE
            ring = [1, -2 * decay * np.cos(angle), decay**2]
            sound += signal.lfilter([0, strength * np.sin(angle)], ring, strikes)
    return sound


def _formants(sound: Array, centres: Array, width: float = 0.13, leak: float = 0.05, tilt: float = 0.35) -> Array:
    """Filter a sound by moving resonances. `centres` is (formants, points), the points spread evenly over the sound.

    The width of a resonance is `width` times its centre plus 50 Hz. `leak` is a gain for all frequencies. The amplitude
    falls as frequency**-tilt.
    """
    frequency, _, frames = signal.stft(sound, nperseg=512, noverlap=256)
    frequency = np.maximum(frequency * RATE, 60)[:, None]
    gain = np.full(frames.shape, leak)
    for path in centres:
        centre = _path(path, frames.shape[1])
        gain += 1 / (1 + ((frequency - centre) / (width * centre + 50)) ** 2)
    return signal.istft(frames * gain * (frequency / 500) ** -tilt, nperseg=512, noverlap=256)[1][: len(sound)]


def _room(sound: Array, rng: Generator) -> Array:
    """Add reverberation: noise that decays by 60 dB within 0.4 to 1.2 s, duller than white noise."""
    seconds = rng.uniform(0.4, 1.2)
    n = int(seconds * RATE)
    tail = _noise(n, 0.25, rng) * np.exp(-6.9 * np.arange(n) / n)
    tail *= rng.uniform(0.3, 0.6) / np.sqrt(np.sum(tail**2))
    return sound + signal.oaconvolve(sound, tail)[: len(sound)]


def _floor(rng: Generator) -> Array:
    """Draw the noise floor of a quiet room: about pink noise, RMS 0.002 to 0.006, with slowly varying loudness."""
    noise = rng.uniform(0.002, 0.006) * _noise(LENGTH, rng.uniform(0.4, 0.6), rng)
    return noise * _path(rng.uniform(0.7, 1.3, 8), LENGTH)


# --- Shapes and times ---


def _path(points: Array, n: int) -> Array:
    """Interpolate n samples of a smooth curve through evenly spaced points, within their range."""
    if len(points) == 1:
        return np.full(n, float(points[0]))
    return PchipInterpolator(np.linspace(0, n - 1, len(points)), points)(np.arange(n))


def _envelope(n: int, attack: float, release: float) -> Array:
    """Return an envelope with raised-cosine ramps of `attack` and `release` seconds, at most half of n each."""
    envelope = np.ones(n)
    for seconds, side in (attack, envelope), (release, envelope[::-1]):
        ramp = min(int(seconds * RATE), n // 2)
        side[:ramp] *= np.sin(np.linspace(0, np.pi / 2, ramp)) ** 2
    return envelope


def _samples(rng: Generator, low: float, high: float) -> int:
    """Draw a duration between low and high seconds, in samples."""
    return int(rng.uniform(low, high) * RATE)


def _scatter(rng: Generator, event: Callable[[], Array], gap: tuple[float, float]) -> Array:
    """Repeat an event over the clip with gaps in seconds (negative: overlaps). The first starts before the clip."""
    canvas = np.zeros(LENGTH)
    at = -_samples(rng, 0, 0.5)
    while at < LENGTH:
        sound = event()
        start, end = max(at, 0), min(at + len(sound), LENGTH)
        if end > start:
            canvas[start:end] += sound[start - at : end - at]
        at += max(len(sound) + _samples(rng, *gap), RATE // 50)
    return canvas
