import pytest
import torch
from torch.nn import functional

from its.errors import UserError
from its.interfaces import IdentityCodec, LatentCodec
from its.methods.score_distillation.checkpoint import load_checkpoint, save_checkpoint
from its.methods.score_distillation.implicit_image import ImplicitImage, Network
from its.methods.score_distillation.optimisation import Optimisation, SDSGuidance, SDSTarget, denoising_errors, distil

NETWORK = Network(features=8, width=16, layers=2)
CANVAS = (8, 16)
STABLE = (1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2).cumprod(0)
COSINE = torch.cos(torch.linspace(0, 1, 500) * 1.5) ** 2 * 0.99 + 0.005


def source(seed=0):
    return torch.Generator().manual_seed(seed)


def optimisation(seed=0, rate=1e-2):
    generator = source(seed)
    image = ImplicitImage(CANVAS, NETWORK, generator)
    optimizer = torch.optim.AdamW(image.parameters(), lr=rate, weight_decay=1e-3)
    return Optimisation(image=image, optimizer=optimizer, generator=generator)


class Halving(LatentCodec):
    """Latents are means of 2 x 2 pixels in one channel."""

    def latent_shape(self, canvas):
        return 1, canvas[0] // 2, canvas[1] // 2

    def encode(self, picture):
        return functional.avg_pool2d(picture.mean(1, keepdim=True), 2) * 3

    def decode(self, latents):
        return latents.expand(-1, 3, -1, -1)


def exact_expert(target, alphas):
    """Estimator whose clean latents are always `target`, so that its noise has a closed form."""

    def estimate(z, t):
        alpha = alphas[t].reshape(-1, 1, 1, 1)
        return (z - alpha.sqrt() * target) / (1 - alpha).sqrt()

    return estimate


def sds_target(target, *, guide=None, codec=None, alphas=STABLE, timesteps=(20, 400)):
    return SDSTarget(
        guide=guide or SDSGuidance(),
        codec=codec or IdentityCodec(),
        expert=exact_expert(target, alphas),
        alphas=alphas,
        timesteps=timesteps,
    )


def test_one_sure_expert_gets_its_picture():
    target = torch.zeros(1, 3, *CANVAS)
    target[:, :, :, :8] = 0.9  # in [-1, 1]: bright on the left, middle gray on the right
    state = optimisation()
    distil(state, targets=[sds_target(target)], iterations=150)
    x = state.image.eval()().detach()
    assert x[..., :8].mean() == pytest.approx(0.95, abs=0.05)
    assert x[..., 8:].mean() == pytest.approx(0.5, abs=0.08)


def test_the_gradient_is_that_of_the_authors_losses_over_other_spaces_and_schedules():
    """Eq. 7 as the loss 0.5 ||z - (z - w (eps_hat - eps))||^2 / b with a detached target."""
    seen, heard = torch.rand(1, 3, 4, 6), torch.rand(1, 1, 4, 8)
    guide = SDSGuidance(weight=0.4, crops=3, crop=(6, 8), resize=(4, 6))
    sds_targets = [
        sds_target(seen, guide=guide, alphas=COSINE, timesteps=(10, 490)),
        sds_target(heard, codec=Halving(), timesteps=(20, 980)),
    ]
    state, other = optimisation(5), optimisation(5)
    distil(state, targets=sds_targets, iterations=1)

    x = other.image.train()()
    rng = other.generator
    views = []
    for _ in range(3):
        top, left = (int(torch.randint(n, (), generator=rng)) for n in (8 - 6 + 1, 16 - 8 + 1))
        views.append(x[0, 0, top : top + 6, left : left + 8])
    views = functional.interpolate(torch.stack(views)[:, None], (4, 6), mode="bilinear", antialias=True)
    latents = {"seen": views.repeat(1, 3, 1, 1) * 2 - 1, "heard": functional.avg_pool2d(x, 2) * 3}
    loss = 0
    for (name, z), one, weight in zip(latents.items(), sds_targets, (0.4, 1.0), strict=True):
        if name == "heard":  # the crop is the whole image, but its position is drawn as well
            torch.randint(1, (2,), generator=rng)
        t = torch.randint(one.timesteps[0], one.timesteps[1] + 1, (), generator=rng)
        eps = torch.randn(z.shape, generator=rng)
        alpha = one.alphas[t]
        noisy = alpha.sqrt() * z + (1 - alpha).sqrt() * eps
        gradient = (1 - alpha) * (one.expert(noisy, t.expand(len(z))) - eps)
        loss = loss + weight * 0.5 * functional.mse_loss(z, (z - gradient).detach(), reduction="sum") / len(z)
    loss.backward()
    for ours, theirs in zip(state.image.parameters(), other.image.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-3, atol=1e-5)
    assert torch.equal(state.generator.get_state(), rng.get_state())


def test_an_expert_that_begins_later_is_not_asked_before():
    calls = []

    def late(z, t):
        calls.append(state.done)
        return torch.zeros_like(z)

    state = optimisation()
    later = SDSTarget(guide=SDSGuidance(begin=3), codec=IdentityCodec(), expert=late, alphas=STABLE, timesteps=(1, 2))
    distil(state, targets=[sds_target(torch.zeros(1, 3, *CANVAS)), later], iterations=5)
    assert calls == [3, 4]


def test_views_lie_everywhere_and_nowhere_else():
    image = torch.arange(8.0 * 16).reshape(1, 1, 8, 16)
    views = SDSGuidance(crops=400, crop=(7, 14)).random_crops(image, source())
    corners = {int(v) for v in views[:, 0, 0, 0]}
    assert corners == {row * 16 + column for row in range(2) for column in range(3)}
    assert torch.equal(views[:, 0], views[:, 2])
    whole = SDSGuidance().random_crops(image, source())
    assert torch.equal(whole, image.expand(1, 3, 8, 16))


def test_the_error_of_a_sure_expert_is_its_distance():
    target = torch.zeros(1, 3, *CANVAS)
    one = sds_target(target, timesteps=(500, 500))
    image = torch.full((1, 1, *CANVAS), 0.75)  # 0.5 in [-1, 1]
    found = denoising_errors(image, {"visual": one}, probes=3, seed=0)
    # eps_hat - eps = sqrt(alpha / (1 - alpha)) (z - target)
    alpha = float(STABLE[500])
    assert found["visual"] == pytest.approx(0.25 * alpha / (1 - alpha), rel=1e-4)


def test_the_error_falls():
    one = sds_target(torch.zeros(1, 3, *CANVAS) + 0.8)
    state = optimisation()
    before = denoising_errors(state.image().detach(), {"visual": one}, probes=4, seed=0)
    distil(state, targets=[one], iterations=60)
    after = denoising_errors(state.image.eval()().detach(), {"visual": one}, probes=4, seed=0)
    assert after["visual"] < 0.2 * before["visual"]


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (SDSGuidance(crops=0), "crops is 0 and begin 0; expected"),
        (SDSGuidance(crop=(9, 4)), r"key: crop is \[9, 4\]; expected .*\[8, 16\]"),
        (SDSGuidance(resize=(0, 4)), r"key: resize is \[0, 4\]; expected"),
    ],
)
def test_guides_that_make_no_sense(guide, message):
    with pytest.raises(UserError, match=message):
        guide.check("key", CANVAS)
    SDSGuidance(crop=(8, 16)).check("key", CANVAS)


def run(state, iterations):
    target = torch.linspace(-1, 1, 16).expand(1, 3, *CANVAS)
    distil(state, targets=[sds_target(target, guide=SDSGuidance(crops=2))], iterations=iterations)
    return state


def test_from_a_checkpoint_it_goes_on_to_the_same_bits(tmp_path):
    whole = run(optimisation(), 9)
    stopped = run(optimisation(), 4)
    save_checkpoint(tmp_path / "deep" / "c.safetensors", stopped)
    resumed = optimisation()
    assert load_checkpoint(tmp_path / "deep" / "c.safetensors", resumed)
    assert resumed.done == 4
    run(resumed, 9)
    assert torch.equal(resumed.image.eval()(), whole.image.eval()())
    for name, value in whole.image.state_dict().items():
        assert torch.equal(resumed.image.state_dict()[name], value), name
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["c.safetensors"]


def test_no_checkpoint_and_a_damaged_one(tmp_path):
    assert not load_checkpoint(tmp_path / "none.safetensors", optimisation())
    save_checkpoint(tmp_path / "c.safetensors", run(optimisation(), 2))
    whole = (tmp_path / "c.safetensors").read_bytes()
    (tmp_path / "c.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="c.safetensors can't be read"):
        load_checkpoint(tmp_path / "c.safetensors", optimisation())
    (tmp_path / "c.safetensors").write_bytes(whole)
    other = optimisation()
    other.image = ImplicitImage(CANVAS, Network(features=8, width=4, layers=2), source())
    with pytest.raises(ValueError, match="c.safetensors can't be read"):
        load_checkpoint(tmp_path / "c.safetensors", other)
