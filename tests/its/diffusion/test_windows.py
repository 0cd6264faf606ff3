"""Overlapping windows: their positions, their average, and experts that are applied to them."""

import pytest
import torch

from its.diffusion import windows
from its.diffusion.windows import Layout, Windows
from its.interfaces import IdentityCodec, NoiseExpert


class Local(NoiseExpert):
    """eps = mean of z and its two neighbours, text added; columns outside of what it sees count as 0."""

    latent_space = "dummy"

    def __init__(self):
        super().__init__()
        self.seen = []

    def encode_text(self, prompts):
        return torch.tensor([[float(len(prompt))] for prompt in prompts])

    def predict_noise(self, latents, timestep, text):
        self.seen.append(tuple(latents.shape))
        padded = torch.nn.functional.pad(latents, (1, 1))
        mean = (padded[..., :-2] + padded[..., 1:-1] + padded[..., 2:]) / 3
        return mean + text.view(-1, 1, 1, 1) + timestep.view(-1, 1, 1, 1) / 1000

    def check(self, *, canvas, steps):
        if canvas[1] > 16:
            raise ValueError(f"too wide: {canvas}")


@pytest.mark.parametrize(
    ("columns", "width", "stride", "circular", "starts"),
    [
        (8, 8, 4, False, (0,)),
        (6, 8, 4, False, (0,)),
        (16, 8, 4, False, (0, 4, 8)),
        (18, 8, 4, False, (0, 4, 8, 10)),
        (9, 8, 8, False, (0, 1)),
        (16, 8, 4, True, (0, 4, 8, 12)),
        (8, 8, 8, True, (0, 4)),
        (5, 8, 4, True, (0, 2, 4)),
    ],
)
def test_windows_cover_the_canvas(columns, width, stride, circular, starts):
    layout = Layout.of(columns, width=width, stride=stride, circular=circular)
    assert layout.starts == starts
    canvas = torch.rand(2, 3, 4, columns, generator=torch.manual_seed(0))
    parts = layout.split(canvas)
    assert parts.shape == (2, len(starts), 3, 4, min(width, columns))
    torch.testing.assert_close(layout.merge(parts), canvas)
    scaled = layout.scaled(8)
    large = torch.rand(1, 3, 2, columns * 8, generator=torch.manual_seed(1))
    torch.testing.assert_close(scaled.merge(scaled.split(large)), large)


def test_the_middle_of_a_window_weighs_more_than_its_ends():
    layout = Layout.of(12, width=8, stride=4)
    parts = torch.zeros(1, 2, 1, 1, 8)
    parts[:, 1] = 1
    (share,) = layout.merge(parts).flatten(0, 2)
    assert share[:4].eq(0).all()
    assert share[8:].eq(1).all()
    assert (share[4:8].diff() > 0).all()
    torch.testing.assert_close(share[4:8] + share[4:8].flip(0), torch.ones(4))


def test_a_circular_window_continues_at_the_first_column():
    layout = Layout.of(8, width=4, stride=2, circular=True)
    assert layout.split(torch.arange(8.0).view(1, 1, 1, 8))[0, 3].flatten().tolist() == [6, 7, 0, 1]


def test_transitions_go_from_the_first_window_to_the_last():
    assert Layout.of(16, width=8, stride=4).fractions == [0, 0.5, 1]


@pytest.mark.parametrize(("columns", "width", "stride"), [(64, 16, 8), (128, 128, 64), (64, 32, 4)])
def test_in_a_loop_a_transition_is_farthest_in_the_middle_whatever_the_windows(columns, width, stride):
    layout = Layout.of(columns, width=width, stride=stride, circular=True)
    parts = torch.tensor(layout.fractions).view(1, -1, 1, 1, 1).expand(1, -1, 1, 1, width)
    along = layout.merge(parts).flatten()
    assert int(along.argmax()) in (columns // 2 - 1, columns // 2)
    assert along[columns // 2] > along[columns // 4] > along[0]


def test_windows_work_with_gradients_after_they_worked_without():
    layout = Layout.of(24, width=8, stride=4)
    with torch.inference_mode():
        layout.merge(layout.split(torch.rand(1, 1, 1, 24)))
    canvas = torch.rand(1, 1, 1, 24, requires_grad=True)
    layout.merge(layout.split(canvas)).sum().backward()
    torch.testing.assert_close(canvas.grad, torch.ones_like(canvas))


def test_embeddings_are_not_copied_for_all_windows_at_once(monkeypatch):
    monkeypatch.setattr(windows, "MAX_ROWS", 4)
    expert, copied = Local(), []
    text = torch.zeros(1, 1, 1000)
    wrapped = Windows(expert=expert, width=8, stride=4)
    z, t = noisy(256, 1)
    expert.predict_noise = lambda z, t, text: (copied.append(text.untyped_storage().nbytes()), z)[1]
    wrapped.predict_noise(z, t, text)
    assert max(copied) <= 4 * text.nbytes


def noisy(columns, batch=2):
    z = torch.randn(batch, 3, 4, columns, generator=torch.manual_seed(2))
    return z, torch.tensor([100, 900])[:batch]


def test_one_window_equals_the_expert():
    plain, wrapped = Local(), Windows(expert=Local(), width=16, stride=8)
    z, t = noisy(16)
    text = plain.encode_text(["a", "castle"])
    assert torch.equal(
        wrapped.predict_noise(z, t, wrapped.encode_text(["a", "castle"])), plain.predict_noise(z, t, text)
    )


def test_windows_are_one_batch_and_each_sample_keeps_its_text_and_timestep(monkeypatch):
    wrapped, z, t = Windows(expert=Local(), width=16, stride=8), *noisy(32)
    eps = wrapped.predict_noise(z, t, wrapped.encode_text(["a", "castle"]))
    assert wrapped.expert.seen == [(6, 3, 4, 16)]
    for i, prompt in enumerate(["a", "castle"]):
        alone = wrapped.predict_noise(z[[i]], t[[i]], wrapped.encode_text([prompt]))
        torch.testing.assert_close(eps[[i]], alone)
    whole = Local().predict_noise(z, t, Local().encode_text(["a", "castle"]))
    torch.testing.assert_close(eps[..., 4:28], whole[..., 4:28], rtol=0, atol=0.1)
    monkeypatch.setattr(windows, "MAX_ROWS", 4)
    wrapped.expert.seen.clear()
    torch.testing.assert_close(wrapped.predict_noise(z, t, wrapped.encode_text(["a", "castle"])), eps)
    assert wrapped.expert.seen == [(4, 3, 4, 16), (2, 3, 4, 16)]


def test_each_window_may_have_its_own_text():
    wrapped, z, t = Windows(expert=Local(), width=16, stride=8), *noisy(32, 1)
    text = torch.tensor([[[0.0], [10.0], [20.0]]])
    added = wrapped.predict_noise(z, t, text) - wrapped.predict_noise(z, t, torch.zeros(1, 1, 1))
    (columns,) = added[:, 0, 0]
    torch.testing.assert_close(columns[[0, 16, 31]], torch.tensor([0.0, 10.0, 20.0]), rtol=0, atol=0.2)
    assert (columns.diff() >= -1e-5).all()


def test_a_circular_canvas_has_no_first_column():
    """The estimate of a rotated canvas is the rotated estimate, if it is rotated by whole strides."""
    wrapped, z, t = Windows(expert=Local(), width=16, stride=8, circular=True), *noisy(32)
    text = wrapped.encode_text(["a", "castle"])
    rotated = wrapped.predict_noise(z.roll(8, -1), t, text)
    torch.testing.assert_close(rotated, wrapped.predict_noise(z, t, text).roll(8, -1))


def test_the_inner_expert_checks_a_window_and_sizes_are_in_pixels():
    wrapped = Windows(expert=Local(), width=16, stride=8)
    wrapped.check(canvas=(4, 64), steps=5)
    with pytest.raises(ValueError, match="too wide"):
        Windows(expert=Local(), width=32, stride=8).check(canvas=(4, 64), steps=5)

    class Eighth(IdentityCodec):
        def latent_shape(self, canvas):
            return 3, canvas[0] // 8, canvas[1] // 8

    expert = Local()
    expert.codec = Eighth
    assert Windows(expert=expert, width=16, stride=8).layout(8).width == 2
