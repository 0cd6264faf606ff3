"""Images that sound: canvases that look like a picture and, played as a spectrogram, sound like their subject."""

from __future__ import annotations

import time
from importlib import import_module
from typing import Any

__version__ = "0.1.0"
DISTRIBUTION = "images-that-sound"
"""Name in package indices, where `its` is another project."""
STARTED = time.perf_counter()
"""Time of the first import, which is about the start of the process of a command."""

# For plugin authors and notebooks. Imported on first use, so that `its --help` does not wait for torch and Lightning.
_PUBLIC = {
    "Colorizer": "interfaces",
    "Combiner": "interfaces",
    "ExpertWrapper": "interfaces",
    "IdentityCodec": "interfaces",
    "ScorerInput": "interfaces",
    "LatentCodec": "interfaces",
    "NoiseExpert": "interfaces",
    "PretrainedComponent": "weights",
    "SamplingPlan": "interfaces",
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
    "generators": "diffusion.noise",
    "initial_noise": "diffusion.noise",
    "SampleSpec": "specs.spec",
    "Clock": "methods.post_process",
    "Method": "methods.base",
    "PostProcess": "methods.post_process",
    "Result": "methods.sample",
    "MultimodalDenoising": "methods.denoising",
    "WindowSize": "methods.denoising",
    "Imprint": "methods.imprint",
    "ScoreDistillation": "methods.score_distillation.method",
    "ImageThatSounds": "report.image_that_sounds",
    "Pipeline": "pipeline",
    "SampleFailed": "report.image_that_sounds",
    "Sample": "methods.sample",
    "UserError": "errors",
    "WeightsNotFound": "weights",
}
_SUBMODULES = ("errors", "interfaces", "registry", "weights")
__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return import_module(f"its.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'its' has no attribute {name!r}")
    return getattr(import_module(f"its.{_PUBLIC[name]}"), name)
