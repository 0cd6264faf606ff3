import pytest
import torch
from diffusers import DPMSolverMultistepScheduler

from its_plugins.schedulers.ddim import DDIM
from its_plugins.schedulers.diffusers_scheduler import DiffusersScheduler


def random(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 4, 3, 5, generator=torch.Generator().manual_seed(seed))


def run(scheduler, steps):
    z, plan = random(), scheduler.plan(steps)
    for index in range(steps):
        z = plan.step(torch.tanh(z), index, z)
    return z


@pytest.mark.parametrize("steps", [5, 20, 100])
def test_ddim_of_diffusers_equals_ddim(steps):
    ours, theirs = DDIM(), DiffusersScheduler(name="DDIMScheduler")
    assert theirs.plan(steps).timesteps.tolist() == ours.plan(steps).timesteps.tolist()
    assert torch.equal(run(theirs, steps), run(ours, steps))


def test_dpm_solver_is_diffusers_own():
    theirs = DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1
    )
    theirs.set_timesteps(25)
    z = random()
    for t in theirs.timesteps:
        z = theirs.step(torch.tanh(z), t, z).prev_sample
    assert torch.equal(run(DiffusersScheduler(), 25), z)


@pytest.mark.parametrize("name", ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"])
def test_fewer_steps_come_close_to_many(name):
    """For a smooth estimate, a higher-order solver at 25 steps is closer to the limit than DDIM."""
    limit = run(DDIM(), 1000 // 2)
    error = (run(DiffusersScheduler(name=name), 25) - limit).abs().max()
    assert error < (run(DDIM(), 25) - limit).abs().max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "DPMSolver"}, "diffusers has no scheduler 'DPMSolver'; try .*DPMSolver"),
        ({"name": "StableDiffusionPipeline"}, "diffusers has no scheduler"),
        ({"options": {"algorithm": "x"}}, "has no option algorithm; expected one of algorithm_type"),
        ({"options": {"algorithm_type": "sde-dpmsolver++"}}, "adds random noise; use a deterministic scheduler"),
        ({"name": "DDPMScheduler"}, "adds random noise; use a deterministic scheduler"),
        ({"name": "DDIMInverseScheduler"}, "DDIMInverseScheduler can't add noise.*use a scheduler for denoising"),
        ({"name": "EulerDiscreteScheduler"}, "starts from noise of standard deviation 1[34]"),
        ({"name": "HeunDiscreteScheduler"}, "starts from noise|evaluations for 4 steps"),
    ],
)
def test_unsupported_schedulers_and_options(arguments, message):
    with pytest.raises(ValueError, match=message):
        DiffusersScheduler(**arguments)


def test_plans_share_no_state():
    scheduler = DiffusersScheduler()
    alone = run(scheduler, 10)
    plans = [scheduler.plan(10), scheduler.plan(5), scheduler.plan(10)]
    z = [random()] * 3
    for index in range(10):
        for number, plan in enumerate(plans):
            if index < len(plan.timesteps):
                z[number] = plan.step(torch.tanh(z[number]), index, z[number])
    assert torch.equal(z[0], alone)
    assert torch.equal(z[2], alone)
    assert torch.equal(z[1], run(scheduler, 5))
