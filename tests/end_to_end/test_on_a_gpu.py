"""The plain command on a CUDA device, with the embedded pack."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from its.cli import main

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

PACK = ["--config=configs/castle_bell.yaml", "--config=configs/models/mini.yaml", "--data.seeds={start: 0, count: 3}"]


def run(folder, *options):
    """Records and pictures of a run, by seed."""
    assert main(["predict", *PACK, f"--output={folder}", *options]) == 0
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("samples/*/sample.json"))]
    pictures = [np.asarray(Image.open(folder / "samples" / r["id"] / "spectrogram.png")) for r in records]
    return {r["seed"]: (r, picture) for r, picture in zip(records, pictures, strict=True)}


def test_nothing_has_to_be_switched_on(tmp_path, recwarn):
    plain = run(tmp_path / "plain")
    assert not [w for w in recwarn if "CUDA graphs" in str(w.message)]
    for record, _ in plain.values():
        assert (record["settings"]["device"], record["settings"]["precision"]) == ("cuda", "16-true")
        assert record["timings"]["batch_size"] == 3
        assert set(record["timings"]["peak_gib"]) >= {"denoise", "decode", "vocode"}
        assert set(record["timings"]["startup"]) == {"import", "find", "load"}
    eager = run(tmp_path / "eager", "--model.cuda_graph=false")
    for seed, (_, picture) in plain.items():
        assert np.array_equal(picture, eager[seed][1])


def test_float32_gives_nearly_the_same(tmp_path):
    half, full = run(tmp_path / "half"), run(tmp_path / "full", "--trainer.precision=32-true")
    for seed, (_, picture) in half.items():
        difference = np.abs(picture.astype(float) - full[seed][1]).mean()
        assert difference < 8  # of 255


def test_colours_and_the_fast_overlay(tmp_path):
    colored = run(tmp_path / "color", "--config=configs/colorize.yaml")
    assert all((tmp_path / "color" / "samples" / r["id"] / "color.png").is_file() for r, _ in colored.values())
    fast = run(tmp_path / "fast", "--config=configs/fast.yaml")
    assert all(r["status"] == "ok" for r, _ in fast.values())
