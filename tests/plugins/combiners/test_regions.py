"""Regions with constant estimates: the weight of each expert at each place."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from its_plugins.combiners.masks import Box, FileMask
from its_plugins.combiners.regions import Regions
from its_plugins.combiners.warm_start_average import WarmStartAverage

LATENTS = torch.zeros(2, 4, 8, 16)


def combine(combiner, values, progress=0.5):
    """Combine estimates that are one value everywhere; return a channel (h, w)."""
    estimates = {name: torch.full_like(LATENTS, value) for name, value in values.items()}
    result = combiner.combine(estimates, LATENTS, progress)
    assert (result == result[:1, :1]).all()
    return result[0, 0]


def test_each_half_is_its_experts_alone():
    combiner = Regions({"left": {"right": 0.5}, "right": {"left": 0.5}})
    result = combine(combiner, {"left": 3.0, "right": 5.0})
    assert (result[:, :8] == 3).all()
    assert (result[:, 8:] == 5).all()


def test_an_expert_with_mask_1_is_averaged_with_each_region():
    combiner = Regions({"low": {"top": 0.75}, "high": {"bottom": 0.75}, "sound": 1.0})
    result = combine(combiner, {"low": 2.0, "high": 4.0, "sound": 10.0})
    assert (result[:6] == 7).all()
    assert (result[6:] == 6).all()


def test_equal_masks_are_the_plain_average():
    assert combine(Regions({"a": 1.0, "b": 1.0}), {"a": 2.0, "b": 4.0}).eq(3).all()
    torch.testing.assert_close(combine(Regions({"a": 0.2, "b": 0.6}), {"a": 2.0, "b": 4.0}), torch.full((8, 16), 3.5))


def test_an_edge_within_a_latent_is_averaged():
    combiner = Regions({"a": {"right": 0.25 + 0.25 / 16}, "b": {"left": 0.25 + 0.25 / 16}})
    row = combine(combiner, {"a": 0.0, "b": 1.0})[0]
    torch.testing.assert_close(row, torch.tensor([0.0] * 4 + [0.75] + [1.0] * 11))


def test_soft_edges_are_ramps_that_add_up_to_one():
    left, right = (Box(right=0.4, soft=0.3), Box(left=0.4, soft=0.3))
    one, other = left.render((4, 1000)), right.render((4, 1000))
    torch.testing.assert_close(one + other, torch.ones(4, 1000))
    places = (torch.arange(1000) + 0.5) / 1000
    torch.testing.assert_close(other[0], ((places - 0.25) / 0.3).clamp(0, 1), rtol=0, atol=1e-5)


def test_weights_over_time_come_from_another_combiner():
    warm = WarmStartAverage({"a": 1.0, "b": 0.6})
    combiner = Regions({"a": {"right": 0.5}, "b": 1.0}, combiner=warm)
    assert combiner.weights(0.1) == {"a": 1.0, "b": 0.0}
    assert (
        combine(combiner, {"a": 2.0}, progress=0.1).eq(2).all()
    )  # also where its mask is 0, as the only active expert
    result = combine(combiner, {"a": 2.0, "b": 4.0}, progress=0.5)
    assert (result[:, :8] == 3).all()
    assert (result[:, 8:] == 4).all()


@pytest.mark.parametrize("ending", ["png", "npy"])
def test_a_file_is_averaged_down_to_the_latents(tmp_path, ending):
    mask = np.zeros((64, 128), np.float32)
    mask[:, :32] = 1
    mask[:32, 32:40] = 1  # half of the pixels of one latent, in the upper rows
    mask[::2, 40:48] = 1
    file = tmp_path / f"mask.{ending}"
    np.save(file, mask) if ending == "npy" else Image.fromarray((mask * 255).astype(np.uint8)).save(file)
    combiner = Regions({"a": str(file), "b": 1.0})
    combiner.check(canvas=(64, 128), steps=10)
    combiner.check(canvas=(256, 512), steps=10)
    result = combine(combiner, {"a": 1.0, "b": 0.0})
    m = result / (1 - result)
    torch.testing.assert_close(m[0], torch.tensor([1.0] * 5 + [0.5] + [0.0] * 10))
    torch.testing.assert_close(m[7], torch.tensor([1.0] * 4 + [0.0, 0.5] + [0.0] * 10))


@pytest.mark.parametrize(
    ("name", "value"),
    [("deep.png", np.uint16(32896)), ("deep.tiff", np.int32(32896)), ("f.tiff", np.float32(128 / 255))],
)
def test_masks_of_more_than_8_bits_keep_their_range(tmp_path, name, value):
    Image.fromarray(np.full((8, 16), value)).save(tmp_path / name)
    torch.testing.assert_close(FileMask(file=str(tmp_path / name)).values, torch.full((8, 16), 128 / 255))


def test_a_file_is_described_by_its_content(tmp_path):
    described = []
    for name, value in (("one", 10), ("other", 10), ("third", 20)):
        Image.new("L", (16, 8), value).save(tmp_path / f"{name}.png")
        described.append(json.dumps(Regions({"a": str(tmp_path / f"{name}.png"), "b": 1.0}).describe()))
    assert described[0] == described[1] != described[2]


def test_invalid_mask_files(tmp_path):
    Image.new("L", (64, 64)).save(tmp_path / "square.png")
    (tmp_path / "text.png").write_text("no picture")
    np.save(tmp_path / "cube.npy", np.zeros((2, 2, 2)))
    np.save(tmp_path / "loud.npy", np.full((8, 16), 2.0))
    np.save(tmp_path / "object.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name, message in (
        (
            "square.png",
            r"mask of a: .*square.png has 64 rows and 64 columns; expected the proportions of the canvas \[64, 128\]",
        ),
        ("text.png", "text.png can't be read as a mask"),
        ("absent.png", "absent.png can't be read as a mask"),
        ("cube.npy", "values of shape .2, 2, 2.; expected .rows, columns."),
        ("loud.npy", "expected .rows, columns. of values in .0, 1."),
        ("object.npy", "object.npy can't be read as a mask"),
    ):
        with pytest.raises(ValueError, match=message):
            Regions({"a": str(tmp_path / name)}).check(canvas=(64, 128), steps=10)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({}, "masks is empty"),
        ({"a": {"left": 0.5, "right": 0.5}}, "mask of a: left 0.5, right 0.5"),
        ({"a": {"right": 512}}, "mask of a: .*expected fractions of the canvas"),
        ({"a": {"width": 0.5}}, "mask of a: .*width"),
        ({"a": 2.0}, "mask of a: .*must lie between 0 and 1"),
    ],
)
def test_wrong_masks(masks, message):
    with pytest.raises(ValueError, match=message):
        Regions(masks)


def test_experts_that_have_no_mask():
    with pytest.raises(
        ValueError, match="combiner has the expert 'vusial', but masks only has visual. Did you mean visual"
    ):
        Regions({"visual": 1.0}, combiner=WarmStartAverage({"vusial": 1.0}))
