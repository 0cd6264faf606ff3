"""The pack's colour expert and its training data."""

import numpy as np
import pytest
import torch
import yaml

from its import registry
from its_plugins.colorizers.factorized_diffusion import FactorizedDiffusion, luminance
from its_plugins.experts.pixel_diffusion import PixelDiffusion
from its_plugins.mini.captions import VISUAL
from its_plugins.mini.training import colors, pictures

PACK = registry.packs()["mini"]


@pytest.fixture(scope="module")
def settings():
    return yaml.safe_load(PACK.colorizer.read_text())["model"]["colorizer"]["init_args"]


@pytest.fixture(scope="module")
def colorizer(settings):
    given = {key: value for key, value in settings.items() if key not in ("expert", "upscaler")}
    colorizer = FactorizedDiffusion(expert=PixelDiffusion(**settings["expert"]["init_args"]), **given)
    colorizer.prepare()
    colorizer.load()
    return colorizer


def discs():
    """Four bright discs on black, at the size and place of the sprites: (1, 1, 256, 1024)."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, 256), torch.linspace(-1, 1, 256), indexing="ij")
    return 0.55 * (x**2 + y**2 < 0.8).float().repeat(1, 4)[None, None]


def test_discs_get_the_colours_of_the_prompts_class(colorizer):
    """Tigers are orange and trees are green, from the same gray and the same noise."""
    gray, prompts = discs().repeat(2, 1, 1, 1), ["a colorful photo of tigers", "a colorful photo of a forest"]
    with torch.inference_mode():
        rgb = colorizer(gray, prompts, [torch.Generator().manual_seed(0) for _ in prompts])
    (red, green, blue), (trees_red, trees_green, trees_blue) = (rgb * gray).sum((2, 3)) / gray.sum((2, 3))
    assert red > blue + 0.1
    assert trees_green > max(trees_red, trees_blue) + 0.1
    assert red - green > trees_red - trees_green + 0.2
    assert float((luminance((rgb * 255).round()) - (gray * 255).round()).abs().max()) <= 1


def test_it_is_sampled_as_it_was_trained(colorizer):
    sampler = colorizer.expert.sampler()
    torch.testing.assert_close(sampler.alphas_cumprod, colors.noising().alphas_cumprod)
    torch.testing.assert_close(colorizer.expert.alphas(), sampler.alphas_cumprod)


def test_colours_in_gamut_keep_their_mean():
    rng = np.random.default_rng(0)
    gray, rgb = rng.random((4, 5, 1), np.float32), rng.random((4, 5, 3), np.float32) * 2
    pulled = colors.clip_to_gamut(gray, rgb)
    assert pulled.min() > -1e-6
    assert pulled.max() < 1 + 1e-6
    np.testing.assert_allclose(pulled.mean(-1, keepdims=True), gray, atol=1e-6)


def test_coloured_pictures_are_the_gray_ones_in_colour():
    rng = np.random.default_rng(1)
    sprite = pictures.Sprite(
        gray=rng.random((40, 30), np.float32),
        alpha=(rng.random((40, 30)) > 0.3).astype(np.float32),
        rgb=rng.random((40, 30, 3), np.float32),
    )
    sprites = dict.fromkeys((name for _, names in pictures.SPRITES.values() for name in names), sprite)
    for name in ("castle", "racing"):
        gray = pictures.picture(name, sprites, np.random.default_rng(2))
        again, rgb, cover = pictures.colored_picture(name, sprites, np.random.default_rng(2))
        np.testing.assert_array_equal(gray, again)
        assert rgb.shape == (256, 1024, 3)
        assert rgb[cover == 0].max() == 0


def test_every_class_has_a_backdrop():
    assert set(colors.BACKDROPS) == set(VISUAL)
