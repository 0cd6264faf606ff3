"""Outline control of the pack: its drawings, its training, its weights and its figures."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from PIL import Image, ImageDraw

from its import registry
from its.media.edges import find_edges
from its_plugins.mini.training import (
    autoencoder,
    control,
    example_outline,
    experts,
    measure_control,
    outlines,
    pictures,
    text,
)

WEIGHTS = registry.packs()["mini"].folder
DOCS = Path(__file__).parents[4] / "docs"


@pytest.fixture(scope="module")
def expert():
    return UNet2DConditionModel.from_pretrained(WEIGHTS, subfolder="unet", torch_dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def trained():
    return ControlNetModel.from_pretrained(WEIGHTS, subfolder="controlnet", torch_dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def sprites():
    """Discs with a dark bar instead of the emoji."""
    y, x = np.meshgrid(np.linspace(-1, 1, 60), np.linspace(-1, 1, 50), indexing="ij")
    alpha = (x**2 + y**2 < 1).astype(np.float32)
    gray = np.where(np.abs(y) < 0.2, 0.3, 0.9).astype(np.float32)
    disc = pictures.Sprite(gray=gray, alpha=alpha, rgb=np.stack([gray] * 3, -1))
    return dict.fromkeys((name for _, names in pictures.SPRITES.values() for name in names), disc)


def test_outlines_are_at_the_borders_of_what_is_drawn(sprites):
    bright = []
    for seed in range(12):
        drawn = outlines.outlined_picture("castle", sprites, np.random.default_rng(seed))
        assert drawn.shape == (2, 256, 1024)
        assert drawn.dtype == np.uint8
        assert set(np.unique(drawn[1])) == {0, 255}
        rows, columns = np.where(drawn[1] > 0)
        bright.append((drawn[0] > 40).mean())
        around = np.pad(drawn[0], 4, mode="edge")
        patches = np.stack([around[rows + i, columns + j] for i in range(0, 9, 2) for j in range(0, 9, 2)])
        assert (np.ptp(patches, axis=0) > 10).mean() > 0.97
    assert np.std(bright) > 0.05  # from one small object to a full canvas


def test_objects_stand_elsewhere_than_in_the_four_slots(sprites):
    """The columns between the slots are as often covered as those at their centres."""
    covered = np.mean(
        [
            outlines.outlined_picture("castle", sprites, np.random.default_rng(seed))[0].max(0) > 40
            for seed in range(60)
        ],
        axis=0,
    )
    between, centres = covered[256::256].mean(), covered[128::256].mean()
    assert between > 0.6 * centres


def test_varied_lines_are_one_to_five_pixels_wide_and_hardly_moved():
    torch.manual_seed(0)
    lines = torch.zeros(60, 40, 40)
    lines[:, 20] = 1
    varied = outlines.vary(lines)
    assert varied.shape == lines.shape
    assert 0 <= varied.min() <= varied.max() <= 1
    widths = (varied[:, :, 20] > 0.5).sum(1)
    assert set(widths.tolist()) == {1, 2, 3, 4, 5} or set(widths.tolist()) == {0, 1, 2, 3, 4, 5}  # 0: thin and blurred
    assert (varied[:, :, 20] > 0).any(1).all()
    assert varied[:, :14].sum() == 0
    assert varied[:, 27:].sum() == 0


def test_before_training_the_expert_is_unchanged(expert):
    torch.manual_seed(0)
    z, t, embeddings = torch.randn(2, 4, 8, 32), torch.tensor([10, 900]), torch.randn(2, 24, 128)
    with torch.no_grad():
        estimate = control.estimate_noise(control.build(expert), expert, z, t, embeddings, torch.rand(2, 64, 256))
        torch.testing.assert_close(estimate, expert(z, t, embeddings).sample)


@pytest.mark.slow
def test_training_lowers_the_loss_and_leaves_the_expert_as_it_is(expert, tmp_path):
    """On one canvas with a pattern that the expert does not know."""
    torch.manual_seed(0)
    pattern = torch.randn(1, 4, 8, 1).repeat(1, 1, 1, 32)
    empty = text.embed(*encoder(), [""])[0]
    table = {kind: [empty[None]] * len(names) for kind, names in experts.CONCEPTS.items()}
    examples = control.Examples(
        clean=pattern,
        outlines=(torch.rand(1, 64, 256) > 0.9).byte() * 255,
        class_ids=torch.tensor([1]),
        weights=torch.ones(1),
        embeddings=experts.CaptionEmbeddings({**table, "empty": [empty]}, torch.device("cpu")),
    )
    loss = experts.NoiseLoss(experts.scheduler(), 0.0, torch.device("cpu"))

    @torch.no_grad()
    def measure(model):
        torch.manual_seed(1)
        clean, embeddings, outline = examples.draw(1)
        many = [tensor.expand(16, *tensor.shape[1:]) for tensor in (clean, embeddings, outline)]
        return loss(many[0], lambda z, t: control.estimate_noise(model, expert, z, t, *many[1:])).item()

    model, before = control.build(expert), {name: tensor.clone() for name, tensor in expert.state_dict().items()}
    untrained = measure(model)
    average = control.train(
        model,
        expert,
        examples,
        batch=2,
        seconds=8,
        log=[].append,
        checkpoint=tmp_path / "checkpoint",
        peak=3e-3,
    )
    assert measure(average) < 0.9 * untrained
    for name, tensor in expert.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert ControlNetModel.from_pretrained(tmp_path / "checkpoint").config.cross_attention_dim == 128


def encoder():
    from transformers import CLIPTextModel, CLIPTokenizer

    return (
        CLIPTextModel.from_pretrained(WEIGHTS, subfolder="text_encoder", dtype=torch.float32).eval(),
        CLIPTokenizer.from_pretrained(WEIGHTS, subfolder="tokenizer"),
    )


def test_each_canvas_is_encoded_with_its_own_outline(expert):
    """Two pictures, one bright on the left and one on the right; their outlines are marked in the same half."""
    torch.manual_seed(0)
    rng, halves = np.random.default_rng(0), []
    for half in (np.s_[:, :128], np.s_[:, 128:]):
        picture = np.zeros((2, 64, 256), np.uint8)
        picture[0][half], picture[1][half] = 200, 255
        halves.append(picture)
    sounds = {name: [rng.integers(60, 120, (64, 256), np.uint8)] for name in experts.CONCEPTS["audio"]}
    arrays = {"outline": {"castle": halves[:1] * 2, "tiger": halves[1:] * 2}, "audio": sounds}
    vae, embeddings = autoencoder.load(WEIGHTS), experts.CaptionEmbeddings.of(*encoder(), torch.device("cpu"))
    examples = control.make_examples(arrays, vae, embeddings, until=float("inf"))
    assert examples.clean.shape == (4, 4, 8, 32)
    gray = autoencoder.decode(vae, examples.clean.float())
    left_is_bright = gray[:, :, :120].mean((1, 2)) > gray[:, :, 136:].mean((1, 2))
    left_has_lines = examples.outlines[:, :, :128].float().mean((1, 2)) > 128
    first = embeddings.first["visual"]
    is_castle = examples.class_ids == first + list(experts.CONCEPTS["visual"]).index("castle")
    assert left_is_bright.tolist() == left_has_lines.tolist() == is_castle.tolist()
    assert left_is_bright.sum() == 2


def house():
    """A drawing that is not of the training data: a house, gray (1, 256, 1024)."""
    image = Image.new("L", (1024, 256), 0)
    pen = ImageDraw.Draw(image)
    pen.rectangle((150, 110, 380, 250), fill=190)
    pen.polygon([(120, 110), (265, 20), (410, 110)], fill=230)
    return torch.from_numpy(np.asarray(image, np.float32) / 255)[None]


def test_the_weights_fit_the_expert_and_use_the_outline(expert, trained):
    """The error of the noise estimate is smaller with a drawing's own outline than with its mirror image or none."""
    torch.manual_seed(0)
    clean = autoencoder.encode(autoencoder.load(WEIGHTS), house())
    outline = find_edges(house())
    embeddings = text.embed(*encoder(), ["castle towers"])
    alphas, errors = experts.scheduler().alphas_cumprod, {"own": 0.0, "mirrored": 0.0, "none": 0.0}
    for t in (600, 750, 900):
        noise = torch.randn_like(clean)
        noisy = alphas[t].sqrt() * clean + (1 - alphas[t]).sqrt() * noise
        for name, lines in (("own", outline), ("mirrored", outline.flip(-1)), ("none", outline * 0)):
            with torch.no_grad():
                estimate = control.estimate_noise(trained, expert, noisy, t, embeddings, lines)
            errors[name] += (estimate - noise).square().mean().item()
    assert errors["own"] < 0.9 * errors["none"]
    assert errors["own"] < 0.9 * errors["mirrored"]


def test_the_share_of_an_outline_that_is_followed():
    picture = torch.zeros(2, 64, 128)
    picture[:, 16:48, 16:48] = 1
    lines = find_edges(picture)
    assert measure_control.followed(lines, picture).tolist() == [1, 1]
    moved = torch.stack([picture[0].roll(5, 1), picture[1].roll(60, 1)])
    near, far = measure_control.followed(lines, moved).tolist()
    assert near == 1
    assert far == 0
    assert measure_control.likeness(picture, 0.1 + picture / 2).tolist() == pytest.approx([1, 1])
    assert measure_control.likeness(picture, 1 - picture).tolist() == pytest.approx([-1, -1])


def test_the_example_is_what_the_program_draws():
    with Image.open(DOCS / "examples" / "outline.png") as stored:
        assert stored.size == (992, 256)
        assert np.array_equal(np.asarray(stored.convert("L")), np.asarray(example_outline.draw()))
        assert set(np.unique(np.asarray(stored.convert("L")))) == {0, 255}
