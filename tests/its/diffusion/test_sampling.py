"""The joint denoising loop, with experts that are formulas."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from its.diffusion.sampling import Interval, denoise, participates
from its.interfaces import Combiner, Scheduler, Step


class Halving(Scheduler):
    """z_{t-1} = z_t / 2 - eps, at timesteps 10 * (steps - index)."""

    def timesteps(self, steps: int) -> Tensor:
        return torch.arange(steps, 0, -1) * 10

    def step(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        return latents / 2 - noise

    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        return clean + noise


class Table(Combiner):
    """Weights from a list with one entry for each step."""

    def __init__(self, rows: Sequence[Mapping[str, float | Tensor]]) -> None:
        self.rows = rows

    def weights(self, progress: float) -> Mapping[str, float | Tensor]:
        return self.rows[round(progress * len(self.rows))]


class Formula:
    """eps = slope * z + t; keeps the timesteps of its calls."""

    def __init__(self, slope: float) -> None:
        self.slope = slope
        self.calls: list[list[int]] = []

    def __call__(self, latents: Tensor, timestep: Tensor) -> Tensor:
        self.calls.append(timestep.tolist())
        return self.slope * latents + timestep.reshape(-1, 1, 1, 1)


def noise(rows: int) -> Tensor:
    return torch.randn(rows, 4, 2, 2, generator=torch.Generator().manual_seed(0))


def test_two_steps_by_hand():
    experts = {"a": Formula(0.5), "b": Formula(-1.0)}
    combiner = Table([{"a": 1.0, "b": 0.0}, {"a": 0.25, "b": 0.75}])
    z_2 = noise(2)
    z_1 = z_2 / 2 - (0.5 * z_2 + 20)
    z_0 = z_1 / 2 - (0.25 * (0.5 * z_1 + 10) + 0.75 * (-1.0 * z_1 + 10))
    result = denoise(z_2, experts=experts, combiner=combiner, scheduler=Halving(), steps=2)
    torch.testing.assert_close(result, z_0, rtol=0, atol=1e-5)
    assert experts["a"].calls == [[20, 20], [10, 10]]
    assert experts["b"].calls == [[10, 10]]  # at weight 0 it was not run


def test_one_expert_at_weight_one_is_plain_sampling():
    expert = Formula(0.3)
    together = denoise(noise(2), experts={"a": expert}, combiner=Table([{"a": 1.0}] * 5), scheduler=Halving(), steps=5)
    z = noise(2)
    for t in (50, 40, 30, 20, 10):
        z = z / 2 - (0.3 * z + t)
    assert torch.equal(together, z)


def test_a_batch_equals_its_samples_with_weights_of_their_own():
    shares = torch.tensor([0.0, 0.3, 1.0])

    def weights(rows: slice) -> list[dict[str, float | Tensor]]:
        return [{"a": shares[rows], "b": 1 - shares[rows]}] * 4

    def run(rows: slice) -> Tensor:
        return denoise(
            noise(3)[rows],
            experts={"a": Formula(0.2), "b": Formula(-0.4)},
            combiner=Table(weights(rows)),
            scheduler=Halving(),
            steps=4,
        )

    batch = run(slice(0, 3))
    for row in range(3):
        torch.testing.assert_close(batch[row], run(slice(row, row + 1))[0], rtol=0, atol=1e-5)


def test_an_expert_runs_where_any_sample_needs_it():
    experts = {"a": Formula(0.2), "b": Formula(0.4)}
    rows = [
        {"a": torch.tensor([1.0, 1.0]), "b": torch.tensor([0.0, 0.0])},
        {"a": torch.tensor([1.0, 0.5]), "b": torch.tensor([0.0, 0.5])},
    ]
    denoise(noise(2), experts=experts, combiner=Table(rows), scheduler=Halving(), steps=2)
    assert len(experts["a"].calls) == 2
    assert len(experts["b"].calls) == 1


def test_on_step_sees_every_step():
    seen: list[Step] = []
    rows = [{"a": 1.0}] * 4
    denoise(
        noise(1),
        experts={"a": Formula(0.1)},
        combiner=Table(rows),
        scheduler=Halving(),
        steps=4,
        on_step=seen.append,
    )
    assert [(s.index, s.steps, s.timestep, s.progress) for s in seen] == [
        (0, 4, 40, 0.0),
        (1, 4, 30, 0.25),
        (2, 4, 20, 0.5),
        (3, 4, 10, 0.75),
    ]
    assert all(s.weights == {"a": 1.0} for s in seen)


def test_a_combiner_that_is_not_linear_sees_latents_and_step():
    class Louder(Table):
        def combine(self, estimates: Mapping[str, Tensor], latents: Tensor, step: Step) -> Tensor:
            return torch.maximum(estimates["a"], estimates["b"]) + 0 * latents + step.index

    z = noise(2)
    result = denoise(
        z,
        experts={"a": lambda z, t: 0 * z + 3, "b": lambda z, t: z},
        combiner=Louder([{"a": 1.0, "b": 1.0}]),
        scheduler=Halving(),
        steps=1,
    )
    assert torch.equal(result, z / 2 - z.clamp(min=3))


def test_the_noise_that_was_given_is_not_changed():
    z = noise(1)
    denoise(z, experts={"a": Formula(0.1)}, combiner=Table([{"a": 1.0}]), scheduler=Halving(), steps=1)
    assert torch.equal(z, noise(1))


@pytest.mark.parametrize(
    ("weight", "expected"),
    [(0, False), (0.0, False), (0.5, True), (-0.5, True), (torch.zeros(3), False), (torch.tensor([0, 0.1]), True)],
)
def test_participates(weight, expected):
    assert participates(weight) is expected


def test_two_estimators_that_take_turns():
    inside, outside = Formula(0.2), Formula(0.4)
    turns = Interval(inside=inside, outside=outside, begin=0.25, end=0.75)
    denoise(noise(1), experts={"a": turns}, combiner=Table([{"a": 1.0}] * 4), scheduler=Halving(), steps=4)
    assert [call[0] for call in outside.calls] == [40, 10]
    assert [call[0] for call in inside.calls] == [30, 20]


@pytest.mark.parametrize(("begin", "end", "steps"), [(0.1, 0.7, 10), (0.3, 0.6, 20), (0.0, 1.0, 7)])
def test_decimal_shares_meet_the_steps_that_they_name(begin, end, steps):
    inside = Formula(0.2)
    turns = Interval(inside=inside, outside=Formula(0.4), begin=begin, end=end)
    denoise(noise(1), experts={"a": turns}, combiner=Table([{"a": 1.0}] * steps), scheduler=Halving(), steps=steps)
    assert len(inside.calls) == round((end - begin) * steps)
