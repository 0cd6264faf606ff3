"""Previews cost a bounded share of the sampling time."""

import io

import pytest
import torch
from PIL import Image

from its.app.previews import SHARE, Previewer
from its.interfaces import IdentityCodec, Step


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


class SlowCodec(IdentityCodec):
    """A codec that takes a fixed time."""

    def __init__(self, clock, seconds):
        super().__init__()
        self.clock, self.seconds = clock, seconds

    def decode(self, latents):
        self.clock.now += self.seconds
        return super().decode(latents)


def run(cost, *, steps=100, seconds=1.0, batch=2):
    clock = Clock()
    previewer = Previewer(SlowCodec(clock, cost), shown=0.75, clock=clock)
    latents = torch.zeros(batch, 3, 16, 64)
    shown = []
    for index in range(steps):
        clock.now += seconds
        step = Step(index=index, steps=steps, timestep=1, experts=(), ran=(), clean=lambda: latents)
        shown.append(previewer(step))
    return previewer, shown


@pytest.mark.parametrize("cost", [0.01, 0.2, 1.0, 3.0])
def test_previews_take_their_share_and_no_more(cost):
    previewer, shown = run(cost)
    assert shown[0] is not None
    assert previewer.first == pytest.approx(cost)
    assert previewer.spent == pytest.approx(cost * (previewer.count - 1))
    assert previewer.spent <= SHARE * (100 + cost + previewer.spent) + cost  # whose cost is not known before
    assert previewer.count == sum(pictures is not None for pictures in shown)
    assert previewer.count >= 0.9 * min(99, SHARE * 100 / cost)


def test_a_preview_is_half_the_size_without_the_trim():
    previewer, shown = run(0.01, batch=3)
    assert previewer.batch == len(shown[0]) == 3
    assert Image.open(io.BytesIO(shown[0][0])).size == (24, 8)
    assert shown[-1] is None  # the sample itself follows


def test_a_process_without_latents_has_no_previews():
    previewer = Previewer(IdentityCodec(), shown=1.0)
    assert previewer(Step(index=0, steps=2, timestep=1, experts=(), ran=())) is None


def test_a_process_that_begins_later_is_counted_too():
    latents = torch.zeros(4, 3, 16, 64)
    previewer = Previewer(IdentityCodec(), shown=1.0)
    for index in (5, 6, 7, 5, 6):
        previewer(Step(index=index, steps=9, timestep=1, experts=(), ran=(), clean=lambda z=latents: z))
        assert previewer.batch == len(latents)
        latents = latents[:2] if index == 7 else latents
