"""The joint denoising loop, with closed-form experts."""

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from its.diffusion.sampling import Interval, PerSample, denoise
from its.interfaces import Combiner, SamplingPlan, Scheduler, Step


class HalvingPlan(SamplingPlan):
    def __init__(self, steps: int) -> None:
        self.timesteps = torch.arange(steps, 0, -1) * 10

    def step(self, noise: Tensor, index: int, latents: Tensor) -> Tensor:
        return latents / 2 - noise

    def add_noise(self, clean: Tensor, noise: Tensor, index: int) -> Tensor:
        return clean + 3 * noise


class Halving(Scheduler):
    """z_{t-1} = z_t / 2 - eps, at timesteps 10 * (steps - index); z_t = z_0 + 3 eps."""

    def plan(self, steps: int) -> SamplingPlan:
        return HalvingPlan(steps)


class Table(Combiner):
    """Weights from a table with one row for each step."""

    def __init__(self, rows: Sequence[Mapping[str, float]]) -> None:
        self.rows = rows

    def weights(self, progress: float) -> Mapping[str, float]:
        return self.rows[round(progress * len(self.rows))]


class Formula:
    """eps = slope * z + t. Records the timesteps of its calls."""

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


class Loudest(Table):
    """Non-linear: the weighted estimate of the largest magnitude."""

    def combine(self, estimates: Mapping[str, Tensor], latents: Tensor, progress: float) -> Tensor:
        weights = self.weights(progress)
        both = torch.stack([weights[name] * estimate for name, estimate in estimates.items()])
        return both.gather(0, both.abs().argmax(0, keepdim=True))[0] + 0.1 * latents


@pytest.mark.parametrize("kind", [Table, Loudest])
def test_a_batch_equals_its_samples_with_combiners_of_their_own(kind):
    shares = [0.0, 0.3, 0.3, 1.0, 0.3]
    combiners = {share: kind([{"a": share, "b": 1 - share}] * 4) for share in shares}

    def run(z: Tensor, combiner: Combiner) -> Tensor:
        experts = {"a": Formula(0.2), "b": Formula(-0.4)}
        return denoise(z, experts=experts, combiner=combiner, scheduler=Halving(), steps=4)

    batch = run(noise(5), PerSample([combiners[share] for share in shares]))
    for row, share in enumerate(shares):
        assert torch.equal(batch[row], run(noise(5)[row : row + 1], combiners[share])[0])


def test_each_group_of_a_batch_gets_the_estimates_of_its_own_experts_alone():
    seen = []

    class Noting(Table):
        def combine(self, estimates: Mapping[str, Tensor], latents: Tensor, progress: float) -> Tensor:
            seen.append((list(estimates), len(latents)))
            return super().combine(estimates, latents, progress)

    one, other = Noting([{"a": 1.0, "b": 0.0}]), Noting([{"a": 0.5, "b": 0.5}])
    denoise(
        noise(4),
        experts={"a": Formula(0.2), "b": Formula(0.4)},
        combiner=PerSample([one, one, other, one]),
        scheduler=Halving(),
        steps=1,
    )
    assert seen == [(["a"], 2), (["a", "b"], 1), (["a"], 1)]


def test_an_expert_runs_where_any_sample_needs_it():
    experts = {"a": Formula(0.2), "b": Formula(0.4)}
    alone, late = Table([{"a": 1.0, "b": 0.0}] * 2), Table([{"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.5}])
    denoise(noise(2), experts=experts, combiner=PerSample([alone, late]), scheduler=Halving(), steps=2)
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
    assert all(list(s.experts) == list(s.ran) == ["a"] for s in seen)


def test_a_step_names_the_experts_that_ran():
    seen: list[Step] = []
    experts = {"a": Formula(0.1), "b": Formula(0.2)}
    rows = [{"a": 1.0, "b": 0.0}, {"a": 0.5, "b": 0.5}]
    denoise(noise(1), experts=experts, combiner=Table(rows), scheduler=Halving(), steps=2, on_step=seen.append)
    assert [list(step.ran) for step in seen] == [["a"], ["a", "b"]]
    assert all(list(step.experts) == ["a", "b"] for step in seen)


def test_a_step_predicts_the_clean_latents_when_it_is_asked_to(monkeypatch):
    calls = []
    predict = HalvingPlan.predict_clean
    monkeypatch.setattr(HalvingPlan, "predict_clean", lambda *args: calls.append(args[2]) or predict(*args))
    z, seen = noise(2), []

    def on_step(step: Step) -> None:
        if step.index == 1:
            seen.append(step.predict_clean())

    table = Table([{"a": 1.0}] * 3)
    denoise(z, experts={"a": Formula(0.25)}, combiner=table, scheduler=Halving(), steps=3, on_step=on_step)
    z_1 = z / 2 - (0.25 * z + 30)
    torch.testing.assert_close(seen, [z_1 - 3 * (0.25 * z_1 + 20)])
    assert calls == [1]


def test_a_process_of_no_latents_predicts_none():
    with pytest.raises(RuntimeError, match="no latents"):
        Step(index=0, steps=1, timestep=0, experts=["a"], ran=["a"]).predict_clean()


def test_a_scheduler_that_keeps_state_cant_run_a_part():
    table = Table([{"a": 1.0}] * 2)
    with pytest.raises(ValueError, match="Halving keeps state"):
        denoise(noise(1), experts={"a": Formula(1)}, combiner=table, scheduler=Halving(), steps=2, part=range(1))


def test_a_combiner_that_is_not_linear_gets_latents_and_progress():
    class Louder(Table):
        def combine(self, estimates: Mapping[str, Tensor], latents: Tensor, progress: float) -> Tensor:
            return torch.maximum(estimates["a"], estimates["b"]) + 0 * latents + progress

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
