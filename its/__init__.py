"""Images that sound: one canvas that looks like a picture and, played as a spectrogram, sounds like what it shows."""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# What plugin authors and notebooks need. Imported on first use: importing torch takes seconds, `its --help` must not.
_PUBLIC = {
    "Colorizer": "interfaces",
    "Combiner": "interfaces",
    "ExpertWrapper": "interfaces",
    "IdentityCodec": "interfaces",
    "Judged": "interfaces",
    "LatentCodec": "interfaces",
    "NoiseExpert": "interfaces",
    "PretrainedComponent": "weights",
    "Scheduler": "interfaces",
    "Scorer": "interfaces",
    "Step": "interfaces",
    "Vocoder": "interfaces",
    "Pack": "registry",
    "register": "registry",
    "register_pack": "registry",
    "SpectrogramFormat": "audio.spectrogram",
    "AUFFUSION": "audio.spectrogram",
    "denoise": "diffusion.sampling",
    "GuidedExpert": "diffusion.guidance",
    "initial_noise": "diffusion.noise",
}
__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'its' has no attribute {name!r}")
    return getattr(import_module(f"its.{_PUBLIC[name]}"), name)
