"""A region of the canvas that is kept while the rest is generated."""

import torch

from its.diffusion.kept_region import KeptRegion
from its.diffusion.sampling import denoise
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.schedulers.ddim import DDIM
from its_plugins.schedulers.diffusers_scheduler import DiffusersScheduler


def draw(seed):
    return torch.randn(2, 4, 8, 16, generator=torch.manual_seed(seed))


def region(scheduler, mask):
    return KeptRegion(scheduler, clean=draw(1), noise=draw(2), mask=mask)


def run(scheduler, seed=3, part=None):
    return denoise(
        draw(seed),
        experts={"one": lambda z, t: 0.3 * z + 0.1},
        combiner=WarmStartAverage(t={"one": 1.0}),
        scheduler=scheduler,
        steps=6,
        part=part,
    )


def test_the_region_ends_as_it_was_given_and_the_rest_is_generated():
    mask = torch.zeros(2, 1, 8, 16)
    mask[0, :, :, :8] = 1
    for scheduler in (DDIM(), DiffusersScheduler()):
        kept, plain = run(region(scheduler, mask)), run(scheduler)
        assert torch.equal(kept[0, :, :, :8], draw(1)[0, :, :, :8])
        assert torch.equal(kept[0, :, :, 8:], plain[0, :, :, 8:])  # this expert sees one latent at a time
        assert torch.equal(kept[1], plain[1])


def test_the_region_has_the_noise_level_of_the_step():
    mask = torch.ones(2, 1, 8, 16)
    plan, inner = region(DDIM(), mask).plan(6), DDIM().plan(6)
    z = plan.step(draw(5), 0, draw(4))
    assert torch.equal(z, inner.add_noise(draw(1), draw(2), 1))


def test_an_empty_region_changes_nothing():
    mask = torch.zeros(2, 1, 8, 16)
    assert torch.equal(run(region(DDIM(), mask)), run(DDIM()))
