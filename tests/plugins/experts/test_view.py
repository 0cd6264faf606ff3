"""View: the transformation of the canvas, and its inverse on the estimate."""

import json

import pytest
import torch

from its.audio.spectrogram import AUFFUSION
from its.interfaces import IdentityCodec, NoiseExpert
from its_plugins.experts.view import View

VIEWS = [
    {"flips": ["time"]},
    {"flips": ["frequency"]},
    {"flips": ["time", "frequency"]},
    {"blocks": (2, 4), "order": [7, 0, 6, 1, 5, 2, 4, 3]},
    {"blocks": (4, 2), "order": 3},
    {"flips": ["frequency"], "blocks": (1, 4), "order": [1, 2, 3, 0]},
]


class Ramp(NoiseExpert):
    """eps(z; y, t) = z + t y + a ramp over rows and columns: acts on each pixel, differently at each place."""

    latent_space = "pixels"
    format = AUFFUSION

    def __init__(self, slope: float = 1.0) -> None:
        super().__init__()
        self.slope = slope

    def encode_text(self, prompts):
        return torch.tensor([[float(len(prompt))] for prompt in prompts])

    def predict_noise(self, latents, timestep, text):
        rows, columns = latents.shape[2:]
        ramp = self.slope * torch.arange(rows * columns, dtype=latents.dtype).reshape(rows, columns)
        return latents + (timestep * text[:, 0]).reshape(-1, 1, 1, 1) + ramp


def canvas(seed=0):
    return torch.randn(2, 3, 8, 16, generator=torch.Generator().manual_seed(seed))


def estimate(expert, latents):
    return expert.predict_noise(latents, torch.tensor([3, 5]), expert.encode_text(["bell", "a dog"]))


def test_flips_are_those_of_a_spectrogram():
    z = canvas()
    assert torch.equal(View(expert=Ramp(), flips=["time"]).apply_view(z), z.flip(3))
    assert torch.equal(View(expert=Ramp(), flips=["frequency"]).apply_view(z), z.flip(2))
    assert torch.equal(View(expert=Ramp(), flips=["time", "frequency"]).apply_view(z), torch.rot90(z, 2, (2, 3)))


def test_order_of_blocks():
    view_of_canvas = View(expert=Ramp(), blocks=(2, 2), order=[3, 0, 1, 2]).apply_view(canvas())
    blocks = [canvas()[:, :, r : r + 4, c : c + 8] for r in (0, 4) for c in (0, 8)]
    for place, block in enumerate([3, 0, 1, 2]):
        r, c = place // 2 * 4, place % 2 * 8
        assert torch.equal(view_of_canvas[:, :, r : r + 4, c : c + 8], blocks[block])


@pytest.mark.parametrize("options", VIEWS, ids=str)
def test_inverse(options):
    view = View(expert=Ramp(), **options)
    assert not torch.equal(view.apply_view(canvas()), canvas())
    assert torch.equal(view.invert_view(view.apply_view(canvas())), canvas())
    assert torch.equal(view.apply_view(view.invert_view(canvas())), canvas())


@pytest.mark.parametrize("options", VIEWS, ids=str)
def test_equivariance(options):
    """Equivariance: the view's estimate for v^-1(z) is v^-1 of the bare expert's estimate for z."""
    expert, view = Ramp(), View(expert=Ramp(), **options)
    assert torch.equal(estimate(view, view.invert_view(canvas())), view.invert_view(estimate(expert, canvas())))


def test_a_view_does_not_change_an_expert_without_position_dependence():
    for options in VIEWS:
        torch.testing.assert_close(
            estimate(View(expert=Ramp(slope=0), **options), canvas()), estimate(Ramp(slope=0), canvas())
        )


def test_noise_keeps_its_statistics():
    for options in VIEWS:
        view_of_canvas = View(expert=Ramp(), **options).apply_view(canvas())
        assert torch.equal(view_of_canvas.flatten().sort().values, canvas().flatten().sort().values)


def test_a_view_of_a_view():
    twice = View(expert=View(expert=Ramp(), flips=["time"]), flips=["time"])
    assert torch.equal(estimate(twice, canvas()), estimate(Ramp(), canvas()))


def test_other_members_are_the_wrapped_experts():
    view = View(expert=Ramp(), flips=["time"])
    assert (view.latent_space, view.format, view.provenance()) == ("pixels", AUFFUSION, None)
    assert isinstance(view.codec(), IdentityCodec)


def test_the_network_of_the_wrapped_expert_is_compiled():
    class Compiled(Ramp):
        def compile_network(self):
            self.slope = 0
            return True

    view = View(expert=Compiled(), flips=["time"])
    assert view.compile_network()
    assert view.expert.slope == 0
    assert not View(expert=Ramp()).compile_network()


def test_the_description_includes_the_wrapped_expert():
    class Placed(Ramp):
        non_identity_args = ("slope",)

    view = View(expert=Placed(slope=2), flips=["time"])
    expected = {"class": "View", "flips": ["time"], "blocks": (1, 1), "order": None}
    assert view.describe() == {**expected, "expert": {"class": "Placed", "slope": 2}}
    assert view.describe(identity_only=True) == {**expected, "expert": {"class": "Placed"}}
    json.dumps(view.describe())


def test_a_seed_draws_the_same_order_each_time_and_leaves_the_global_generator():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    orders = [View(expert=Ramp(), blocks=(2, 4), order=seed).order for seed in (1, 1, 2)]
    assert orders[0] == orders[1] != orders[2]
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blocks": (2, 2)}, "are inconsistent"),
        ({"order": [0]}, "are inconsistent"),
        ({"blocks": (0, 2), "order": []}, "at least 1"),
        ({"blocks": (1, 2), "order": [0, 0]}, r"order \(=\[0, 0\]\) must contain each number from 0 to 1 once"),
        ({"blocks": (1, 2), "order": [0, 1, 2]}, "must contain each number from 0 to 1 once"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        View(expert=Ramp(), **options)


def test_blocks_that_do_not_fit_the_canvas():
    view = View(expert=Ramp(), blocks=(1, 3), order=[2, 1, 0])
    view.check(canvas=(8, 24), steps=10)
    with pytest.raises(ValueError, match=r"blocks \(=\[1, 3\]\) must divide the latents, which have 8 rows and 16 col"):
        view.check(canvas=(8, 16), steps=10)
