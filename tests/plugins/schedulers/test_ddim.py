"""DDIM against diffusers' scheduler and against closed forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler

from its_plugins.schedulers.ddim import DDIM

SPACINGS = ["leading", "trailing", "linspace"]


def reference(**changes: Any) -> DDIMScheduler:
    sd_v1_5: dict[str, Any] = {
        "num_train_timesteps": 1000,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
    }
    return DDIMScheduler(**(sd_v1_5 | changes))


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [1, 5, 20, 30, 50, 100])
def test_timesteps_are_those_of_diffusers(spacing: str, steps: int) -> None:
    theirs = reference(timestep_spacing=spacing)
    theirs.set_timesteps(steps)
    ours = DDIM(spacing=spacing).plan(steps).timesteps
    assert ours.tolist() == theirs.timesteps.tolist()
    assert ours.dtype == torch.int64


@pytest.mark.parametrize(("steps", "first"), [(100, 991), (20, 951)])
def test_timesteps_of_the_paper(steps: int, first: int) -> None:
    assert DDIM().plan(steps).timesteps.tolist() == list(range(first, 0, -1000 // steps))


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [5, 20, 50, 100])
@pytest.mark.parametrize("set_alpha_to_one", [False, True])
def test_every_step_equals_diffusers(spacing: str, steps: int, set_alpha_to_one: bool) -> None:
    theirs = reference(timestep_spacing=spacing, set_alpha_to_one=set_alpha_to_one)
    theirs.set_timesteps(steps)
    ours = DDIM(spacing=spacing, set_alpha_to_one=set_alpha_to_one).plan(steps)
    z = random(2, 4, 3, 5)
    for index, t in enumerate(ours.timesteps.tolist()):
        eps = random(2, 4, 3, 5, seed=index)
        assert torch.equal(ours.step(eps, index, z), theirs.step(eps, t, z).prev_sample)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_whole_process_equals_diffusers(spacing: str) -> None:
    theirs = reference(timestep_spacing=spacing)
    theirs.set_timesteps(100)
    ours = DDIM(spacing=spacing).plan(100)
    z = expected = random(2, 4, 3, 5)
    for index, t in enumerate(ours.timesteps.tolist()):
        z = ours.step(torch.tanh(z), index, z)
        expected = theirs.step(torch.tanh(expected), t, expected).prev_sample
    assert torch.equal(z, expected)


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("steps", [5, 20, 50, 100])
def test_add_noise_equals_diffusers(spacing: str, steps: int) -> None:
    ours, clean, noise = DDIM(spacing=spacing).plan(steps), random(2, 4, 3, 5), random(2, 4, 3, 5, seed=1)
    for index, t in enumerate(ours.timesteps):
        expected = reference().add_noise(clean, noise, t.expand(2))
        assert torch.equal(ours.add_noise(clean, noise, index), expected)


def test_other_noise_schedules_equal_diffusers() -> None:
    changes: dict[str, Any] = {"beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
    ours, clean, noise = DDIM(**changes).plan(20), random(2, 4, 3, 5), random(2, 4, 3, 5, seed=1)
    for index, t in enumerate(ours.timesteps):
        expected = reference(**changes).add_noise(clean, noise, t.expand(2))
        assert torch.equal(ours.add_noise(clean, noise, index), expected)


def test_the_true_noise_leads_to_the_clean_latents() -> None:
    plan, clean, noise = DDIM(set_alpha_to_one=True).plan(10), random(1, 4, 2, 2), random(1, 4, 2, 2, seed=1)
    z = plan.add_noise(clean, noise, 0)
    for index in range(10):
        z = plan.step(noise, index, z)
    torch.testing.assert_close(z, clean, rtol=0, atol=1e-5)


def test_the_default_ends_at_the_noise_of_training_timestep_0() -> None:
    plan, clean, noise = DDIM().plan(10), random(1, 4, 2, 2), random(1, 4, 2, 2, seed=1)
    z = plan.step(noise, 9, plan.add_noise(clean, noise, 9))
    beta_0 = 0.00085
    torch.testing.assert_close(z, (1 - beta_0) ** 0.5 * clean + beta_0**0.5 * noise, rtol=0, atol=1e-5)


def test_half_precision_latents_stay_in_half_precision() -> None:
    plan = DDIM().plan(5)
    z = random(1, 4, 2, 2).to(torch.bfloat16)
    assert plan.step(z, 0, z).dtype == plan.add_noise(z, z, 0).dtype == torch.bfloat16


@pytest.mark.parametrize("steps", [0, -3, 1001])
def test_steps_must_fit_into_training(steps: int) -> None:
    with pytest.raises(ValueError, match=rf"steps \(={steps}\) must lie between 1 and train_timesteps \(=1000\)"):
        DDIM().plan(steps)


def test_the_offset_must_not_lead_out_of_training() -> None:
    with pytest.raises(ValueError, match=r"steps \(=1000\) with steps_offset \(=1\) would begin at timestep 1000"):
        DDIM().plan(1000)
    assert DDIM(steps_offset=0).plan(1000).timesteps.tolist() == list(range(999, -1, -1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train_timesteps": 0}, r"train_timesteps \(=0\)"),
        ({"beta_start": 0.02}, r"beta_start \(=0.02\) <= beta_end \(=0.012\)"),
        ({"beta_schedule": "cosine"}, r"beta_schedule \(=cosine\) must be one of scaled_linear, linear"),
        ({"spacing": "even"}, r"spacing \(=even\) must be one of leading, trailing, linspace"),
        ({"steps_offset": -1}, r"steps_offset \(=-1\)"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DDIM(**arguments)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_any_number_of_steps_gives_as_many_falling_timesteps(spacing: str) -> None:
    for steps in range(1, 999):
        timesteps = DDIM(spacing=spacing).plan(steps).timesteps
        assert len(timesteps) == steps
        assert ((timesteps >= 0) & (timesteps < 1000)).all()
        assert (timesteps.diff() < 0).all()


def test_cosine_schedule_equals_diffusers():
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(beta_schedule="squaredcos_cap_v2", clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    ours = DDIM(beta_schedule="squaredcos_cap_v2").plan(7)
    theirs.set_timesteps(7)
    assert ours.timesteps.tolist() == theirs.timesteps.tolist()
    clean, noise = torch.randn(2, 1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for index, t in enumerate(theirs.timesteps):
        torch.testing.assert_close(ours.add_noise(clean, noise, index), theirs.add_noise(clean, noise, t))
        torch.testing.assert_close(ours.step(noise, index, clean), theirs.step(noise, t, clean).prev_sample)
