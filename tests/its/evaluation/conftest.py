"""Run directories as `its predict` writes them, with pictures and sounds of noise."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

PAIRS = (("castle towers", "bell ringing"), ("a dog", "dog barking"))


def write_sample(run, seed, pair=PAIRS[0], *, scores=None, rate=16_000, channels=1, size=(64, 96), **more):
    rng = np.random.default_rng([seed, *pair[0].encode()])
    folder = Path(run) / "samples" / f"{pair[0].replace(' ', '-')}-{seed}"
    folder.mkdir(parents=True)
    shape = size if channels == 1 else (*size, 3)
    Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / "spectrogram.png")
    sound = rng.uniform(-0.5, 0.5, (rate // 2, channels) if channels > 1 else rate // 2)
    soundfile.write(folder / "audio.wav", sound, rate, subtype="PCM_16")
    record = {
        "id": folder.name,
        "status": "ok",
        "prompts": {"visual": pair[0], "audio": pair[1]},
        "seed": seed,
        "roles": {"visual": "visual", "audio": "audio"},
        "settings": {"method": "multimodal denoising", "guidance_scale": {"visual": 10.0, "audio": 10.0}},
        "scores": scores or {},
        "weights": {"vocoder": {"name": "something"}},
        **more,
    }
    (folder / "sample.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def record_of(folder):
    return json.loads((Path(folder) / "sample.json").read_text(encoding="utf-8"))


@pytest.fixture
def run(tmp_path):
    """Two prompt pairs, two seeds each."""
    for pair in PAIRS:
        for seed in (1, 2):
            write_sample(tmp_path / "run", seed, pair)
    return tmp_path / "run"
