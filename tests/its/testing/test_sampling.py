from typing import ClassVar

import pytest
import torch

from its import Combiner, SamplingPlan, Scheduler
from its.testing import check_combiner, check_scheduler

NAMES = ["visual", "audio"]


class OneByOne(Combiner):
    """One expert for the first half of the process, the other for the rest."""

    def weights(self, progress):
        return {"visual": float(progress >= 0.5), "audio": float(progress < 0.5)}


class ForgetsOne(OneByOne):
    def weights(self, progress):
        return {"visual": 1.0}


class Infinite(OneByOne):
    def weights(self, progress):
        return {"visual": 1.0, "audio": float("inf")}


class NeedsAll(OneByOne):
    def combine(self, estimates, latents, progress):
        return estimates["visual"] + estimates["audio"]


class Tensors(OneByOne):
    def weights(self, progress):
        return {"visual": torch.ones(2), "audio": torch.ones(2)}


class Counts(OneByOne):
    calls = 0

    def combine(self, estimates, latents, progress):
        self.calls += 1
        return super().combine(estimates, latents, progress) * self.calls


class MixesBatch(OneByOne):
    def combine(self, estimates, latents, progress):
        noise = super().combine(estimates, latents, progress)
        return noise - noise.mean()


@pytest.mark.parametrize(
    ("combiner", "clause"),
    [
        (ForgetsOne, "weights has a value for every expert and for no other name: visual, audio"),
        (Infinite, "weights are finite numbers"),
        (NeedsAll, "combine needs no estimates of experts with weight 0"),
        (Tensors, "weights are finite numbers"),
        (Counts, "combine depends on its arguments alone"),
        (MixesBatch, "combine of a batch equals that of each sample"),
    ],
)
def test_combiners(combiner, clause):
    check_combiner(OneByOne(), NAMES)
    with pytest.raises(AssertionError, match=f"{combiner.__name__} violates the contract of Combiner: {clause}"):
        check_combiner(combiner(), NAMES)


class Plan(SamplingPlan):
    def __init__(self, steps):
        self.sigmas = [1 - k / (steps + 1) for k in range(1, steps + 1)]
        self.timesteps = torch.tensor([round(1000 * sigma) for sigma in self.sigmas])

    def step(self, noise, index, latents):
        sigma = self.sigmas[index]
        after = self.sigmas[index + 1] if index + 1 < len(self.sigmas) else 0.0
        clean = (latents - sigma * noise) / (1 - sigma)
        return (1 - after) * clean + after * noise

    def add_noise(self, clean, noise, index):
        return (1 - self.sigmas[index]) * clean + self.sigmas[index] * noise


class Straight(Scheduler):
    """sigma decreases linearly from 1 to 0; the signal coefficient is 1 - sigma."""

    plan_class = Plan

    def plan(self, steps):
        return self.plan_class(steps)


class Rises(Straight):
    class plan_class(Plan):  # noqa: N801
        def __init__(self, steps):
            super().__init__(steps)
            self.timesteps = self.timesteps.flip(0)


class StopsEarly(Straight):
    class plan_class(Plan):  # noqa: N801
        def step(self, noise, index, latents):
            return latents if index == len(self.sigmas) - 1 else super().step(noise, index, latents)


class Shares(Straight):
    """All plans share the previous estimate."""

    class plan_class(Plan):  # noqa: N801
        previous: ClassVar[list] = [0.0]

        def step(self, noise, index, latents):
            out = super().step(noise, index, latents) + 1e-3 * self.previous[0]
            self.previous[0] = noise.float().mean()
            return out.to(latents.dtype)


class Upcasts(Straight):
    class plan_class(Plan):  # noqa: N801
        def step(self, noise, index, latents):
            return super().step(noise, index, latents).float()


class PredictsNoise(Straight):
    class plan_class(Plan):  # noqa: N801
        def predict_clean(self, noise, index, latents):
            return noise


@pytest.mark.parametrize(
    ("scheduler", "clause"),
    [
        (Rises, "timesteps decrease"),
        (StopsEarly, "perfect estimates reconstruct the clean latents"),
        (Shares, "plans share no state"),
        (Upcasts, "step returns the dtype of the latents"),
        (PredictsNoise, "predict_clean is the inverse of add_noise"),
    ],
)
def test_schedulers(scheduler, clause):
    check_scheduler(Straight())
    with pytest.raises(AssertionError, match=f"{scheduler.__name__} violates the contract of Scheduler: {clause}"):
        check_scheduler(scheduler())
