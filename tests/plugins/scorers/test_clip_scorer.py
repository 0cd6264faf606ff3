"""CLIP score against its formula, on a tiny random model."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from weight_files import Code, save_pickle, save_tensors

from its.errors import UserError
from its.interfaces import ScorerInput
from its.weights import WeightsNotFound
from its.weights.hub import pinned_revision
from its_plugins.random_weights import dual_encoders as random_towers
from its_plugins.scorers.clip_scorer import CLIPScorer, square_crops

PROMPT = "a painting of castle towers, grayscale"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_towers.clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def scorer(folder):
    scorer = CLIPScorer(weights=str(folder), revision=None, batch_size=5)
    scorer.prepare()
    scorer.load()
    return scorer


def make_input(seed=0, size=(64, 96), prompt=PROMPT):
    rng = np.random.default_rng(seed)
    picture = torch.from_numpy(rng.integers(0, 256, size).astype(np.float32)) / 255
    return ScorerInput(picture=picture, waveform=torch.zeros(1), sample_rate=16_000, prompt=prompt)


def reference_score(folder, sample):
    """Mean cosine before the floor: square crops at stride side / 8, 8 bits, CLIP's preprocessing."""
    from transformers import CLIPModel, CLIPTokenizer

    model = CLIPModel.from_pretrained(folder).eval()
    tokens = CLIPTokenizer.from_pretrained(folder)([sample.prompt], return_tensors="pt")
    pixels = (sample.picture * 255).round().byte().numpy()
    side = min(pixels.shape)
    mean = np.array([0.48145466, 0.4578275, 0.40821073])
    std = np.array([0.26862954, 0.26130258, 0.27577711])
    cosines = []
    with torch.inference_mode():
        text = model.get_text_features(**tokens).pooler_output[0].numpy()
        for left in range(0, pixels.shape[1] - side + 1, side // 8):
            crop = Image.fromarray(pixels[:, left : left + side]).convert("RGB").resize((32, 32), Image.BICUBIC)
            values = (np.asarray(crop) / 255 - mean) / std
            image = torch.from_numpy(values.transpose(2, 0, 1)[None]).float()
            embedded = model.get_image_features(image).pooler_output[0].numpy()
            cosines.append(embedded @ text / np.linalg.norm(embedded) / np.linalg.norm(text))
    return float(np.mean(cosines))


def test_the_formula_written_out(folder, scorer):
    values = []
    for seed in range(4):
        sample = make_input(seed, prompt=PROMPT if seed % 2 else "bell ringing")
        expected = reference_score(folder, sample)
        values.append(expected)
        assert scorer.score([sample])[0] == pytest.approx(max(expected, 0), abs=1e-5)
    assert max(values) > 0 or min(values) < 0  # the floor is tested below
    assert len({round(value, 3) for value in values}) > 1


def test_the_floor_comes_after_the_mean(scorer, monkeypatch):
    text = torch.tensor([1.0, 0.0])
    embedded = torch.tensor([[0.6, 0.8], [-0.2, 0.98], [-0.9, 0.44]])
    monkeypatch.setattr(scorer, "embed_text", lambda prompt: text)
    monkeypatch.setattr(scorer, "embed", lambda crops: embedded[: len(crops)])
    square, wide = make_input(size=(64, 64)), make_input(size=(64, 72))
    assert scorer.score([square])[0] == pytest.approx(0.6)
    assert scorer.score([wide])[0] == pytest.approx((0.6 - 0.2) / 2)  # a floor for each crop would give 0.3
    assert scorer.score([make_input(size=(64, 80))]) == [0.0]


def test_crops_of_the_papers_picture():
    picture = torch.arange(992).expand(256, 992) / 992
    crops = square_crops(picture)
    assert crops.shape == (24, 256, 256)
    for number, crop in enumerate(crops):
        assert torch.equal(crop, (picture[:, 32 * number : 32 * number + 256] * 255).round().byte())


def test_eight_bits_are_rounded_and_not_truncated():
    assert square_crops(torch.full((8, 8), 0.999))[0, 0, 0] == 255


def test_prompts_longer_than_the_model_reads_are_cut(scorer):
    assert scorer.score([make_input(prompt="castle " * 200)])[0] is not None


def test_a_batch_of_different_sizes_equals_its_samples(scorer):
    samples = [make_input(0), make_input(1, (32, 200)), make_input(2, (90, 40))]
    assert scorer.score(samples) == pytest.approx([scorer.score([sample])[0] for sample in samples], abs=1e-5)


def test_a_folder_without_its_preprocessor_is_not_whole(folder, tmp_path):
    for file in folder.iterdir():
        if file.name != "preprocessor_config.json":
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(WeightsNotFound, match="lacks preprocessor_config.json"):
        CLIPScorer(weights=str(tmp_path), revision=None).prepare()


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_pickled_tensors_equal_safetensors(folder, scorer, tmp_path, form):
    """The repository's default branch has only pickled tensors."""
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).symlink_to(file)
    save_tensors(tmp_path / "pytorch_model.bin", load_file(folder / "model.safetensors"), form=form)
    other = CLIPScorer(weights=str(tmp_path))
    other.prepare()
    other.load()
    assert other.score([make_input()]) == scorer.score([make_input()])
    trace = tmp_path / "was run"
    save_pickle({"x": Code(trace)}, tmp_path / "pytorch_model.bin", form)
    with pytest.raises(UserError, match=r"pytorch_model\.bin is damaged, or contains other objects than tensors"):
        CLIPScorer(weights=str(tmp_path)).find()
    assert not trace.exists()


def test_the_default_is_pinned_by_commit():
    scorer = CLIPScorer()
    assert scorer.revision is None  # a revision of the config comes before the pin
    assert len(pinned_revision(scorer.weights)) == 40
