import pytest
import torch

from its import Combiner, Scheduler
from its.testing import check_combiner, check_scheduler

NAMES = ["visual", "audio"]


class OneByOne(Combiner):
    """The first half of the process belongs to one expert, the rest to the other; by number or by sample."""

    def weights(self, progress):
        return {"visual": float(progress >= 0.5), "audio": torch.full((3,), float(progress < 0.5))}


class ForgetsOne(OneByOne):
    def weights(self, progress):
        return {"visual": 1.0}


class Infinite(OneByOne):
    def weights(self, progress):
        return {"visual": 1.0, "audio": float("inf")}


class NeedsAll(OneByOne):
    def combine(self, estimates, latents, step):
        return estimates["visual"] + estimates["audio"]


@pytest.mark.parametrize(
    ("combiner", "clause"),
    [
        (ForgetsOne, "weights names every expert and no other: visual, audio"),
        (Infinite, "weights are finite numbers"),
        (NeedsAll, "combine does without the estimates of experts whose weight is 0"),
    ],
)
def test_combiners(combiner, clause):
    check_combiner(OneByOne(), NAMES)
    with pytest.raises(AssertionError, match=f"{combiner.__name__} breaks the contract of Combiner: {clause}"):
        check_combiner(combiner(), NAMES)


class Straight(Scheduler):
    """sigma falls evenly from 1 to 0, and the signal's share is 1 - sigma."""

    def timesteps(self, steps):
        self.sigmas = [1 - k / (steps + 1) for k in range(1, steps + 1)]
        return torch.tensor([round(1000 * sigma) for sigma in self.sigmas])

    def step(self, noise, index, latents):
        sigma = self.sigmas[index]
        after = self.sigmas[index + 1] if index + 1 < len(self.sigmas) else 0.0
        clean = (latents - sigma * noise) / (1 - sigma)
        return (1 - after) * clean + after * noise

    def add_noise(self, clean, noise, index):
        return (1 - self.sigmas[index]) * clean + self.sigmas[index] * noise


class Rises(Straight):
    def timesteps(self, steps):
        return super().timesteps(steps).flip(0)


class StopsEarly(Straight):
    def step(self, noise, index, latents):
        return latents if index == len(self.sigmas) - 1 else super().step(noise, index, latents)


class Remembers(Straight):
    previous = 0.0

    def step(self, noise, index, latents):
        out = super().step(noise, index, latents) + 1e-3 * self.previous
        self.previous = noise.float().mean()
        return out.to(latents.dtype)


class Upcasts(Straight):
    def step(self, noise, index, latents):
        return super().step(noise, index, latents).float()


@pytest.mark.parametrize(
    ("scheduler", "clause"),
    [
        (Rises, "timesteps fall"),
        (StopsEarly, "perfect estimates lead back to the clean latents"),
        (Remembers, "timesteps starts afresh"),
        (Upcasts, "step keeps the dtype of the latents"),
    ],
)
def test_schedulers(scheduler, clause):
    check_scheduler(Straight())
    with pytest.raises(AssertionError, match=f"{scheduler.__name__} breaks the contract of Scheduler: {clause}"):
        check_scheduler(scheduler())
