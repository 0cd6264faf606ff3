"""The training loop and its data."""

import time

import pytest
import torch
from torch import nn

from its_plugins.mini.training import canvases, experts, loop


def test_it_ends_with_its_time_and_returns_the_average_of_better_weights(tmp_path):
    torch.manual_seed(0)
    records, model, target = [], nn.Linear(4, 1, bias=False), torch.tensor([[1.0, -1.0, 0.5, 0.0]])

    def objective(model):
        x = torch.randn(32, 4)
        return (model(x).float() - x @ target.T).square().mean()

    before, start = (model.weight - target).norm(), time.monotonic()
    average = loop.fit(model, objective, seconds=1, peak=5e-2, name="line", log=records.append, warm_up=1)
    assert time.monotonic() - start < 10
    assert (average.weight - target).norm() < before * 0.9
    assert not average.training
    assert not average.weight.requires_grad
    assert records[-1]["stage"] == "line"
    assert 0 <= records[-1]["loss"] < before**2


def test_a_loss_that_is_not_finite_ends_it():
    with pytest.raises(RuntimeError, match="'line' is not finite"):
        loop.fit(
            nn.Linear(1, 1),
            lambda model: model(torch.full((1, 1), torch.nan)).sum(),
            seconds=1,
            peak=1e-2,
            name="line",
            log=print,
        )


def store():
    """Two pictures and three sounds, of some of the classes, 16 x 64."""
    rng = torch.Generator().manual_seed(0)
    gray = {
        "visual": torch.stack([torch.full((16, 64), level, dtype=torch.uint8) for level in (100, 200)]),
        "audio": torch.randint(0, 255, (3, 16, 64), generator=rng, dtype=torch.uint8),
    }
    return canvases.Canvases(
        gray=gray,
        names={"visual": torch.tensor([0, 2]), "audio": torch.tensor([1, 1, 3])},
        shares={"visual": torch.ones(3), "audio": torch.ones(4)},
    )


@pytest.mark.parametrize("size", [None, 8])
def test_canvases_are_of_the_sorts_asked_for(size):
    torch.manual_seed(0)
    shape = (200, 16, 64) if size is None else (200, 8, 8)
    for sort, visual, audio in (("pictures", {0, 2}, {-1}), ("sounds", {-1}, {1, 3}), ("products", {0, 2}, {1, 3})):
        mix = canvases.mix({**dict.fromkeys(canvases.SORTS, 0.0), sort: 1.0}, torch.device("cpu"))
        gray, names = store().draw(mix, 200, size)
        assert gray.shape == shape
        assert 0 <= gray.min() <= gray.max() <= 1
        assert set(names["visual"].tolist()) == visual
        assert set(names["audio"].tolist()) == audio


def test_classes_are_drawn_by_share_however_many_canvases_they_have():
    torch.manual_seed(0)
    mix = canvases.mix({"pictures": 0.0, "sounds": 1.0, "products": 0.0}, torch.device("cpu"))
    _, names = store().draw(mix, 4000)
    assert (names["audio"] == 1).float().mean() == pytest.approx(0.5, abs=0.05)


def test_a_product_is_dark_where_the_picture_is_and_has_the_sounds_texture_elsewhere():
    torch.manual_seed(0)
    shape = torch.zeros(4, 8, 32)
    shape[:, :, 16:] = 1
    sound = torch.rand(4, 8, 32) * 0.6 + 0.3
    both = canvases.product(shape, sound, torch.full((4,), 0.3))
    assert both[:, :, :16].mean() < 0.6 * both[:, :, 16:].mean()
    textures = torch.stack([both[:, :, 16:].flatten(), sound[:, :, 16:].flatten()])
    assert torch.corrcoef(textures)[0, 1] > 0.9


def test_examples_are_captioned_by_their_own_class_or_not_at_all():
    torch.manual_seed(0)
    visual, audio = (len(experts.CONCEPTS[kind]) for kind in ("visual", "audio"))
    table = {
        "visual": [torch.full((2, 1, 1), 1.0 + index) for index in range(visual)],
        "audio": [torch.full((3, 1, 1), 101.0 + index) for index in range(audio)],
        "empty": [torch.zeros(1, 1)],
    }
    captions = experts.CaptionEmbeddings(table, torch.device("cpu"))
    clean, sorts = torch.arange(4.0).view(4, 1, 1, 1), torch.tensor([0, 1, 2, 2])
    names = {"visual": torch.tensor([5, -1, 3, 4]), "audio": torch.tensor([-1, 6, 7, 8])}
    mix = {(0, "visual"): 0.25, (1, "audio"): 0.25, (2, "audio"): 0.5}
    drawn, embeddings = experts.Examples.of(clean, sorts, names, mix, captions).draw(2000)
    found = {(int(row), int(words)) for row, words in zip(drawn.flatten(), embeddings.flatten(), strict=True)}
    assert found == {(0, 6), (1, 107), (2, 108), (3, 109), (0, 0), (1, 0), (2, 0), (3, 0)}
    assert (embeddings == 0).float().mean() == pytest.approx(experts.EMPTY_SHARE, abs=0.03)
