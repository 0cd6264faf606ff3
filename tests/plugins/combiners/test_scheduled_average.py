"""ScheduledAverage: interpolated weights, and the negation of compositional diffusion."""

import pytest
import torch

from its.diffusion.guidance import GuidedExpert
from its.interfaces import NoiseExpert
from its_plugins.combiners.scheduled_average import ScheduledAverage


class Prompted(NoiseExpert):
    """eps(z; y, t) = z / 2 + y, where y is the length of the prompt; the null prompt gives z / 2."""

    latent_space = "dummy"

    def encode_text(self, prompts):
        return torch.tensor([[float(len(prompt))] for prompt in prompts])

    def predict_noise(self, latents, timestep, text):
        return latents / 2 + text[:, 0].reshape(-1, 1, 1, 1)


def combined(combiner, estimates, progress=0.0):
    latents = torch.zeros_like(next(iter(estimates.values())))
    return combiner.combine(estimates, latents, progress)


@pytest.mark.parametrize(
    ("progress", "weight"), [(0.0, 1.0), (0.2, 1.0), (0.3, 2.0), (0.4, 3.0), (0.6, 1.5), (0.8, 0.0), (0.95, 0.0)]
)
def test_weights_lie_on_lines_between_the_points_and_stay_beyond(progress, weight):
    combiner = ScheduledAverage({"a": [(0.2, 1.0), (0.4, 3.0), (0.8, 0.0)], "b": 1.0})
    expected = {"a": weight / (weight + 1), "b": 1 / (weight + 1)}
    assert combiner.weights(progress) == pytest.approx(expected)


def test_combine_is_the_average_at_that_time():
    one = torch.ones(2, 4, 3, 3)
    fade = ScheduledAverage({"a": [(0, 0), (1, 1)], "b": [(0, 1), (1, 0)]})
    for progress in (0.0, 0.25, 0.5):
        expected = progress * 8 + (1 - progress) * 4
        torch.testing.assert_close(combined(fade, {"a": 8 * one, "b": 4 * one}, progress), expected * one)


def test_weight_0_leaves_an_expert_out():
    combiner = ScheduledAverage({"visual": 1.0, "audio": 0.0})
    assert all(combiner.weights(i / 10) == {"visual": 1.0, "audio": 0.0} for i in range(10))


def test_conjunction_and_negation_are_those_of_compositional_diffusion():
    """Liu et al., Eq. 11 and 13: eps = eps(z) + sum_i w_i (eps(z; c_i) - eps(z)), with w_i < 0 for negated prompts.

    Guided estimates are eps(z) + gamma_i (eps(z; c_i) - eps(z)), so their average with weights lambda_i has
    w_i = lambda_i gamma_i.
    """
    expert, z, t = Prompted(), torch.randn(1, 4, 3, 3), torch.tensor([5])
    prompts, gammas = {"castle": "castle", "tower": "tall tower", "no": "flags"}, {"castle": 7.0, "tower": 3.0, "no": 4}
    estimates = {
        name: GuidedExpert(
            expert, text=expert.encode_text([prompt]), null_text=expert.encode_text([""]), scales=[gammas[name]]
        )(z, t)
        for name, prompt in prompts.items()
    }
    weights = {"castle": 1.0, "tower": 1.0, "no": -0.5}
    null = expert.predict_noise(z, t, expert.encode_text([""]))
    liu = null + sum(
        weights[name] / 1.5 * gammas[name] * (expert.predict_noise(z, t, expert.encode_text([prompt])) - null)
        for name, prompt in prompts.items()
    )
    torch.testing.assert_close(combined(ScheduledAverage(weights), estimates), liu)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "weights is empty"),
        ({"a": []}, "weights of a has no points"),
        ({"a": float("nan")}, "weights of a .*finite"),
        ({"a": [(0.5, 1), (0.5, 2)]}, "progress must lie in .* rise"),
        ({"a": [(0.5, 1), (1.5, 2)]}, "progress must lie in"),
        ({"a": 1.0, "b": -1.0}, "at progress 0 .a 1, b -1. must add up to more than 0"),
        ({"a": [(0, 1), (0.7, 0)]}, "at progress 0.7 .a 0. must add up"),
    ],
)
def test_wrong_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        ScheduledAverage(weights)
