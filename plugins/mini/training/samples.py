"""The samples of a run directory, as the pack's sheet and figures need them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray
from PIL import Image


@dataclass(frozen=True)
class Sample:
    """A finished sample: its folder, its visual and audio prompt, and its seed."""

    folder: Path
    prompts: tuple[str, str]
    seed: int

    def picture(self) -> NDArray[np.uint8]:
        """The spectrogram, gray, (256, 992)."""
        with Image.open(self.folder / "spectrogram.png") as picture:
            return np.asarray(picture.convert("L"))

    def waveform(self) -> NDArray[np.float64]:
        """The sound, (n,)."""
        sound, _ = soundfile.read(self.folder / "audio.wav", dtype="float64")
        return np.asarray(sound, np.float64)


def read(run: Path) -> list[Sample]:
    """The finished samples of a run of `its predict`, by seed.

    Raises:
        SystemExit: there is none.
    """
    found = []
    for record in sorted(run.glob("samples/*/sample.json")):
        content = json.loads(record.read_text())
        if content.get("status") == "ok":
            prompts = content["prompts"]
            found.append(Sample(record.parent, (prompts["visual"], prompts["audio"]), int(content["seed"])))
    if not found:
        raise SystemExit(f"{run} has no finished samples: --run takes the output folder of `its predict`")
    return sorted(found, key=lambda sample: sample.seed)
