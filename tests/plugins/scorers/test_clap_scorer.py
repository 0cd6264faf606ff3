"""CLAP score against its formula, on a tiny random model."""

import numpy as np
import pytest
import torch
import torchaudio
from safetensors.torch import load_file
from weight_files import Code, save_pickle, save_tensors

from its.errors import UserError
from its.interfaces import ScorerInput
from its.weights.hub import pinned_revision
from its_plugins.random_weights import dual_encoders as random_towers
from its_plugins.scorers.clap_scorer import CLAPScorer, normalize_sound


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_towers.clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="module")
def scorer(folder):
    scorer = CLAPScorer(weights=str(folder), revision=None)
    scorer.prepare()
    scorer.load()
    return scorer


def make_input(seed=0, seconds=0.9, rate=16_000, prompt="bell ringing"):
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate)) / rate
    sound = 0.1 * np.sin(2 * np.pi * 200 * (seed + 1) * time) + 0.02 * rng.standard_normal(len(time))
    waveform = torch.from_numpy(sound.astype(np.float32))
    return ScorerInput(picture=torch.zeros(8, 8), waveform=waveform, sample_rate=rate, prompt=prompt)


def reference_score(folder, sample):
    """Cosine before the floor: resample to 48 kHz, scale to peak 1, apply CLAP's processor."""
    from transformers import AutoTokenizer, ClapFeatureExtractor, ClapModel, ClapProcessor

    model = ClapModel.from_pretrained(folder).eval()
    processor = ClapProcessor(ClapFeatureExtractor.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
    sound = torchaudio.functional.resample(sample.waveform, sample.sample_rate, 48_000).numpy()
    sound = sound / np.abs(sound).max()
    inputs = processor(text=[sample.prompt], audio=sound, sampling_rate=48_000, return_tensors="pt", padding=True)
    with torch.inference_mode():
        outputs = model(**inputs)
    sound, text = outputs.audio_embeds[0].numpy(), outputs.text_embeds[0].numpy()
    return float(sound @ text / np.linalg.norm(sound) / np.linalg.norm(text))


def test_the_formula_written_out(folder, scorer):
    values = []
    for seed, prompt in enumerate(["bell ringing", "dog barking", "bird chirping, tweeting", "people cheering"]):
        sample = make_input(seed, prompt=prompt)
        expected = reference_score(folder, sample)
        values.append(expected)
        assert scorer.score([sample])[0] == pytest.approx(max(expected, 0), abs=1e-4)
    assert len({round(value, 4) for value in values}) > 1


def test_the_floor(scorer, monkeypatch):
    monkeypatch.setattr(scorer, "embed", lambda inputs: torch.tensor([[1.0, 0.0]] * len(inputs)))
    monkeypatch.setattr(scorer, "embed_text", lambda prompt: torch.tensor([-0.5, 0.5]))
    assert scorer.score([make_input()]) == [0.0]


def test_loudness_does_not_matter_and_silence_is_no_error(scorer):
    loud = make_input()
    quiet = ScorerInput(picture=loud.picture, waveform=loud.waveform / 50, sample_rate=16_000, prompt=loud.prompt)
    assert scorer.score([quiet])[0] == pytest.approx(scorer.score([loud])[0], abs=1e-4)
    silent = ScorerInput(picture=loud.picture, waveform=torch.zeros(1000), sample_rate=16_000, prompt=loud.prompt)
    assert scorer.score([silent])[0] is not None


def test_resampled_to_48_khz_with_its_peak_at_1():
    sound = normalize_sound(make_input(seconds=0.5).waveform, 16_000, 48_000)
    assert len(sound) == 24_000
    assert sound.abs().max() == 1


def test_a_long_sound_is_cut_at_the_end(scorer):
    long = make_input(seconds=2.5)
    scores = {scorer.score([long])[0] for _ in range(3)}
    assert len(scores) == 1
    length = scorer._preprocessor.nb_max_samples
    begin = ScorerInput(
        picture=long.picture,
        waveform=normalize_sound(long.waveform, 16_000, 48_000)[:length],
        sample_rate=48_000,
        prompt=long.prompt,
    )
    assert scores.pop() == pytest.approx(scorer.score([begin])[0], abs=1e-4)


def test_a_batch_equals_its_samples(scorer):
    samples = [make_input(seed, rate=rate) for seed, rate in enumerate((16_000, 44_100, 8_000))]
    scorer.batch_size = 2
    assert scorer.score(samples) == pytest.approx([scorer.score([sample])[0] for sample in samples], abs=1e-5)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_pickled_tensors_equal_safetensors(folder, scorer, tmp_path, form):
    """The repository's default branch has only pickled tensors."""
    for file in folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).symlink_to(file)
    save_tensors(tmp_path / "pytorch_model.bin", load_file(folder / "model.safetensors"), form=form)
    other = CLAPScorer(weights=str(tmp_path))
    other.prepare()
    other.load()
    assert other.score([make_input()]) == scorer.score([make_input()])
    trace = tmp_path / "was run"
    save_pickle({"x": Code(trace)}, tmp_path / "pytorch_model.bin", form)
    with pytest.raises(UserError, match=r"pytorch_model\.bin is damaged, or contains other objects than tensors"):
        CLAPScorer(weights=str(tmp_path)).find()
    assert not trace.exists()


def test_the_default_is_pinned_by_commit():
    scorer = CLAPScorer()
    assert scorer.revision is None  # a revision of the config comes before the pin
    assert len(pinned_revision(scorer.weights)) == 40
