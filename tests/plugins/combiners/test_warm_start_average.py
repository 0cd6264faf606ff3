"""WarmStartAverage: when experts join, and Eq. 1 to 6 of the paper written out for two experts."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import ceil

import pytest
import torch
from torch import Tensor

from its.diffusion.guidance import GuidedExpert
from its.diffusion.sampling import denoise
from its.interfaces import NoiseExpert
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.schedulers.ddim import DDIM

STEPS = [10, 20, 25, 50, 100]


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("t", ["1.0", "0.95", "0.9", "0.8", "0.7", "0.6", "0.3", "0.1"])
def test_an_expert_joins_at_the_exact_step(t: str, steps: int) -> None:
    combiner = WarmStartAverage({"visual": float(t), "audio": 1.0})
    joins = ceil((1 - Fraction(t)) * steps)  # exact: the float 1 - 0.7 is above 3 / 10
    for index in range(steps):
        expected = {"visual": 0.5, "audio": 0.5} if index >= joins else {"visual": 0.0, "audio": 1.0}
        assert combiner.weights(index / steps) == expected, f"step {index} of {steps}"


@pytest.mark.parametrize(("steps", "joins"), [(100, 10), (20, 2)])
def test_the_papers_visual_expert_joins_after_a_tenth_of_the_steps(steps: int, joins: int) -> None:
    combiner = WarmStartAverage({"visual": 0.9, "audio": 1.0})
    present = [combiner.weights(index / steps)["visual"] > 0 for index in range(steps)]
    assert present == [False] * joins + [True] * (steps - joins)


@pytest.mark.parametrize("t", [1 / 3, 2 / 3])
def test_shares_that_are_not_exact_decimals(t: float) -> None:
    combiner = WarmStartAverage({"visual": t, "audio": 1.0})
    present = [combiner.weights(index / 3)["visual"] > 0 for index in range(3)]
    assert present.count(True) == round(t * 3)


def test_an_expert_alone_has_weight_one_whatever_its_w() -> None:
    combiner = WarmStartAverage({"visual": 0.5, "audio": 1.0}, weights={"audio": 0.3, "visual": 0.7})
    assert combiner.weights(0.0) == {"visual": 0.0, "audio": 1.0}
    assert combiner.weights(0.5) == pytest.approx({"visual": 0.7, "audio": 0.3})


def test_weights_are_relative_and_default_to_one() -> None:
    combiner = WarmStartAverage({"a": 1.0, "b": 1.0, "c": 1.0}, weights={"a": 2})
    assert combiner.weights(0.0) == {"a": 0.5, "b": 0.25, "c": 0.25}


def test_weight_zero_and_share_zero_never_take_part() -> None:
    combiner = WarmStartAverage({"a": 1.0, "b": 1.0, "c": 0.0}, weights={"b": 0.0})
    assert all(combiner.weights(index / 10) == {"a": 1.0, "b": 0.0, "c": 0.0} for index in range(10))


def test_combine_is_the_weighted_sum() -> None:
    combiner = WarmStartAverage({"a": 1.0, "b": 1.0}, weights={"a": 1.0, "b": 3.0})
    one = torch.ones(2, 4, 1, 1)
    combined = combiner.combine({"a": 2 * one, "b": 6 * one}, torch.zeros_like(one), 0.0)
    torch.testing.assert_close(combined, 5 * one)


@pytest.mark.parametrize(
    ("t", "weights", "message"),
    [
        ({"visual": 1.1}, None, r"t of visual \(=1.1\) must lie between 0 and 1"),
        ({"visual": -0.1}, None, r"t of visual \(=-0.1\)"),
        ({"visual": float("nan")}, None, r"t of visual \(=nan\)"),
        ({"audio": 1.0}, {"audio": -1.0}, r"weight of audio \(=-1.0\)"),
        ({"audio": 1.0}, {"audio": float("inf")}, r"weight of audio \(=inf\)"),
        (
            {"audio": 1.0, "visual": 0.9},
            {"audoi": 1.0},
            r"'audoi', but t only has audio, visual. Did you mean audio\?",
        ),
        ({"visual": 0.9, "audio": 0.99}, None, r"no expert runs in the first steps .*audio: t 0.99 weight 1.*t = 1.0"),
        ({"visual": 0.9, "audio": 1.0}, {"audio": 0.0}, "no expert runs in the first steps .*audio: t 1 weight 0"),
        ({}, None, "t is empty"),
    ],
)
def test_wrong_arguments(t: dict[str, float], weights: dict[str, float] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WarmStartAverage(t, weights)


@pytest.mark.parametrize("names", [["a"], ["visual", "audio"], ["a", "b", "c"]])
def test_the_example_names_every_expert(names: list[str]) -> None:
    assert list(WarmStartAverage.example(names).weights(0.0)) == names


class LinearExpert(NoiseExpert):
    """eps(z; y, t) = slope z + y + t / 1000, where y is the length of the prompt. Records its calls."""

    latent_space = "dummy"

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope
        self.calls: list[tuple[int, int]] = []  # (timestep, batch size)

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        return torch.tensor([[float(len(prompt))] for prompt in prompts])

    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        self.calls.append((int(timestep[0]), len(latents)))
        return self.slope * latents + (text[:, 0] + timestep / 1000).reshape(-1, 1, 1, 1)


def test_the_method_of_the_paper_written_out() -> None:
    """Eq. 1 to 6 for two experts, three samples with different guidance scales, and 20 steps."""
    steps, t_v, t_a = 20, 0.9, 1.0
    prompts = {"visual": ["castle", "dogs", "a garden"], "audio": ["bell", "bark", "bird"]}
    gammas = {"visual": [10.0, 1.0, 7.5], "audio": [1.0, 7.5, 3.0]}
    slopes = {"visual": 0.3, "audio": -0.2}
    experts = {name: LinearExpert(slope) for name, slope in slopes.items()}
    guided = {
        name: GuidedExpert(
            expert,
            text=expert.encode_text(prompts[name]),
            null_text=expert.encode_text(["", "", ""]),
            scales=gammas[name],
        )
        for name, expert in experts.items()
    }
    start = torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    combiner = WarmStartAverage({"visual": t_v, "audio": t_a})
    result = denoise(start, experts=guided, combiner=combiner, scheduler=DDIM(), steps=steps)

    alpha_bar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, dim=0)
    for sample in range(3):
        z = start[sample].double()
        for index in range(steps):
            t = 951 - 50 * index

            def guided_noise(name: str, z: Tensor = z, t: int = t, sample: int = sample) -> Tensor:
                eps_null = slopes[name] * z + 0 + t / 1000
                eps_text = slopes[name] * z + len(prompts[name][sample]) + t / 1000
                return eps_null + gammas[name][sample] * (eps_text - eps_null)  # Eq. 3 and 4

            w_v, w_a = float(index >= 2), 1.0  # the visual expert joins after 10 % of 20 steps
            eps = (w_v * guided_noise("visual") + w_a * guided_noise("audio")) / (w_v + w_a)  # Eq. 5 and 6
            a_t, a_prev = alpha_bar[t], alpha_bar[max(t - 50, 0)]
            z_0 = (z - (1 - a_t).sqrt() * eps) / a_t.sqrt()
            z = a_prev.sqrt() * z_0 + (1 - a_prev).sqrt() * eps  # Eq. 1
        torch.testing.assert_close(result[sample].double(), z, rtol=1e-5, atol=1e-4)

    timesteps = [951 - 50 * index for index in range(steps)]
    # Two of three samples have a scale other than 1: 3 conditional and 2 unconditional estimates.
    assert experts["audio"].calls == [(t, 5) for t in timesteps]
    assert experts["visual"].calls == [(t, 5) for t in timesteps[2:]]
