"""Precision and type of device of a run whose config names none."""

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.plugins import MixedPrecision

from its.engine.trainer import default_precision, device_type
from its.methods.denoising import MultimodalDenoising
from its.methods.score_distillation.method import ScoreDistillation


@pytest.fixture(params=["cuda", "cpu"])
def machine(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: request.param == "cuda")
    return request.param


@pytest.mark.parametrize("settings", [{}, {"accelerator": "auto"}, {"accelerator": "gpu"}])
def test_the_device_is_the_machines_best_one(machine, settings):
    assert device_type(settings) == machine


def test_a_named_device_is_taken(machine):
    assert device_type({"accelerator": "cpu"}) == "cpu"
    assert device_type({"accelerator": CPUAccelerator()}) == "cpu"


def test_float16_is_the_default_on_cuda_alone(machine):
    expected = "16-true" if machine == "cuda" else None
    assert default_precision({"precision": None}, MultimodalDenoising.cuda_precision) == expected
    assert default_precision({"accelerator": "cpu"}, MultimodalDenoising.cuda_precision) is None


def test_gradients_stay_in_float32(machine):
    assert default_precision({}, ScoreDistillation.cuda_precision) in (None, "32-true")


@pytest.mark.parametrize("settings", [{"precision": "32-true"}, {"plugins": [MixedPrecision("bf16-mixed", "cpu")]}])
def test_a_named_precision_is_kept(machine, settings):
    assert default_precision(settings, "16-true") is None
