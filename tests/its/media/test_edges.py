import pytest
import torch
from torch.nn import functional

from its.media.edges import find_edges


def square(low=0.2, high=0.8):
    """A square in rows 20 to 43 and columns 30 to 69, (1, 64, 100)."""
    picture = torch.full((1, 64, 100), low)
    picture[:, 20:44, 30:70] = high
    return picture


def enclosed(edges):
    """Pixels that can't be reached from the top left corner without crossing the edges, (b, h, w)."""
    outside = torch.zeros_like(edges)
    outside[:, 0, 0] = 1
    while True:
        sides = functional.max_pool2d(outside, (3, 1), 1, (1, 0)).maximum(
            functional.max_pool2d(outside, (1, 3), 1, (0, 1))
        )
        if torch.equal(grown := sides * (1 - edges), outside):
            return (1 - outside - edges) > 0
        outside = grown


def test_a_square_has_one_closed_thin_outline_at_its_sides():
    edges = find_edges(square())
    assert edges.dtype == torch.float32
    assert set(edges.unique().tolist()) == {0.0, 1.0}
    rows, columns = torch.where(edges[0] > 0)
    sides = torch.stack([rows - 19.5, rows - 43.5, columns - 29.5, columns - 69.5]).abs().amin(0)
    assert sides.max() < 2  # corners are rounded by the blur
    inside = enclosed(edges)[0]
    assert inside[23:41, 33:67].all()
    assert not inside[:18].any()
    assert not inside[:, :28].any()
    assert (functional.avg_pool2d(edges, 2, 1) < 1).all()  # nowhere two pixels thick
    assert edges[0, 32].sum() == 2
    assert edges[0, :, 50].sum() == 2


@pytest.mark.parametrize("angle", [0.0, 0.3, 0.8, 1.2, 2.0])
def test_an_edge_in_any_direction_is_a_thin_unbroken_line(angle):
    y, x = torch.meshgrid(torch.arange(64.0) - 32, torch.arange(64.0) - 32, indexing="ij")
    angle = torch.tensor(angle)
    distance = x * angle.cos() + y * angle.sin()
    edges = find_edges((distance > 0).float()[None])[0]
    assert distance[edges > 0].abs().max() < 1.6
    inner = edges[8:-8, 8:-8]
    lines = inner if angle.sin().abs() < angle.cos().abs() else inner.T  # each crosses the edge once
    assert lines.sum(1).min() >= 1
    assert lines.sum(1).max() <= 2


@pytest.mark.parametrize("size", [(8, 8), (9, 31), (200, 13)])
def test_a_constant_picture_has_no_edges(size):
    for level in (0.0, 0.3, 1.0):
        assert find_edges(torch.full((2, *size), level)).sum() == 0
    almost = 0.5 + 0.2 / 255 * torch.rand(2, *size, generator=torch.Generator().manual_seed(0))
    assert find_edges(almost).sum() == 0


def test_contrast_and_brightness_change_nothing():
    rng = torch.Generator().manual_seed(1)
    picture = functional.interpolate(torch.rand(3, 1, 8, 12, generator=rng), (64, 96), mode="bicubic").clamp(0, 1)[:, 0]
    edges = find_edges(picture)
    assert 0.01 < edges.mean() < 0.3
    for gain, shift in ((0.5, 0), (0.37, 0.5), (0.08, 0.1)):
        assert (find_edges(picture * gain + shift) != edges).float().mean() < 1e-3


def test_weak_noise_adds_no_edges():
    noise = 0.02 * torch.randn(1, 64, 100, generator=torch.Generator().manual_seed(2))
    clean, noisy = find_edges(square()), find_edges(square() + noise)
    near = functional.max_pool2d(clean, 3, 1, 1)
    assert (noisy * (1 - near)).sum() == 0
    assert noisy.sum() > 0.9 * clean.sum()


def test_weak_edges_count_if_they_continue_strong_ones():
    """A step that fades from 1.0 to 0.15 is followed to its end; the same weak step alone beside it is not."""
    picture = torch.zeros(1, 60, 80)
    picture[:, 10:30, 10:] = torch.linspace(1, 0.15, 70)
    picture[:, 45:55, 10:] = 0.15
    edges = find_edges(picture)[0]
    assert (edges[7:13, 12:].amax(0) > 0).all()
    assert edges[40:].sum() == 0
    assert find_edges(picture, low=0.05, high=0.1)[0, 40:].sum() > 100
    assert find_edges(picture, low=0.5, high=0.6)[0, 7:13, 65:].sum() == 0


def test_pictures_of_a_batch_are_independent():
    both = torch.cat([square(), square(0.5, 0.55)])
    assert torch.equal(find_edges(both), torch.cat([find_edges(square()), find_edges(square(0.5, 0.55))]))


def test_other_shapes_and_thresholds_are_refused():
    with pytest.raises(ValueError, match=r"\(3, 8, 8, 1\)"):
        find_edges(torch.zeros(3, 8, 8, 1))
    with pytest.raises(ValueError, match="low=0.3"):
        find_edges(torch.zeros(1, 8, 8), low=0.3, high=0.2)
