"""The embedded pack: its layout, its classes, and `its predict` with it."""

import json
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from its import registry
from its.cli import main
from its.specs.prompts import PromptGrid
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.mini import captions
from its_plugins.mini.judge_network import CLASSES, FILES
from its_plugins.mini.training.sampling import Settings

ROOT = Path(__file__).parents[3]
PACK = registry.packs()["mini"].folder
PROMPTS = [
    row
    for file in ("table4.yaml", "table5.jsonl")
    for row in PromptGrid(prompts=str(ROOT / "configs" / "prompts" / file)).expand(["visual", "audio"])
]


def load(cls, folder):
    expert = cls(weights="pack:mini", unet_folder=folder)
    expert.prepare()
    expert.load()
    return expert


def test_it_is_small_and_holds_no_pickle():
    files = [path for path in PACK.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 25e6
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".txt", ""}
    assert "Apache" in (PACK / "LICENSE").read_text()


def test_it_is_a_pipeline_folder_that_diffusers_loads():
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(PACK, local_files_only=True)
    assert pipe.scheduler.config.prediction_type == "epsilon"


@pytest.mark.parametrize("path", sorted(PACK.rglob("*.safetensors")), ids=lambda path: path.parent.name)
def test_it_is_kept_in_half_precision(path):
    assert {tensor.dtype for tensor in load_file(path).values() if tensor.is_floating_point()} == {torch.float16}


def test_a_wheel_contains_the_pack():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["its_plugins.mini"]
    home = ROOT / "plugins" / "mini"
    taken = {path for pattern in patterns for path in home.glob(pattern) if path.is_file()}
    pack = registry.packs()["mini"]
    assert {
        pack.config.resolve(),
        pack.colorizer.resolve(),
        *(p.resolve() for p in pack.folder.rglob("*") if p.is_file()),
    } <= {path.resolve() for path in taken}


@pytest.mark.parametrize(
    ("cls", "folder", "prompts"),
    [
        (StableDiffusion, "unet", {row.prompts["visual"] for row in PROMPTS}),
        (Auffusion, "unet_audio", {row.prompts["audio"] for row in PROMPTS}),
    ],
)
def test_the_papers_prompts_are_known_and_unknown_prompts_warn(cls, folder, prompts):
    expert = load(cls, folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expert.encode_text([*prompts, ""])
    with pytest.warns(
        UserWarning, match="pack:mini was not trained on any word of the prompt 'quantum chromodynamics'"
    ):
        expert.encode_text(["quantum chromodynamics"])


def test_known_words_cover_every_class():
    """`known_words.json` is written in training, so it may lack classes that were added later."""
    for kind, folder in (("visual", "unet"), ("audio", "unet_audio"), ("visual", "unet_color")):
        known = json.loads((PACK / folder / "known_words.json").read_text())
        assert known == captions.words(kind)
        assert ("horses" if kind == "visual" else "neighing") in known


@pytest.mark.parametrize("kind", captions.CONCEPTS)
def test_judges_have_an_output_for_every_class(kind):
    assert load_file(PACK / FILES[kind])["head.bias"].shape == (len(CLASSES[kind]),)


def test_its_settings_are_the_defaults_of_the_training_tools():
    model = yaml.safe_load(registry.packs()["mini"].config.read_text())
    combiner, guidance = model["model"]["combiner"]["init_args"], model["data"]["guidance_scale"]
    settings = Settings()
    assert model["model"]["steps"] == settings.steps
    assert combiner["t"] == {"visual": settings.visual_start, "audio": settings.audio_start}
    assert combiner["weights"] == pytest.approx({"visual": settings.visual_weight, "audio": 1 - settings.visual_weight})
    assert guidance == {"visual": settings.visual_guidance, "audio": settings.audio_guidance}


def test_its_text_encoder_keeps_the_subjects_apart():
    """In an earlier recipe tiger, kitten and dog ended on one point (cosine 0.998)."""
    expert = load(StableDiffusion, "unet")
    subjects = ["castle towers", "tigers", "trains", "furry kittens", "cute dogs"]
    last = expert.hidden_states([f"a painting of {s}, grayscale" for s in subjects])[:, -1]
    cosine = torch.nn.functional.cosine_similarity(last[:, None], last[None], dim=-1)
    assert (cosine - torch.eye(len(subjects))).max() < 0.5


def test_paraphrases_mean_the_same():
    expert = load(StableDiffusion, "unet")
    plain, other, apart = expert.hidden_states(["a painting of castles, grayscale", "an old castle", "a dog"])[:, -1]
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(plain, other, dim=0) > 0.9 > cosine(plain, apart, dim=0)


def test_its_settings_are_those_of_configs_models_mini():
    pack = yaml.safe_load(registry.packs()["mini"].config.read_text())
    assert pack == yaml.safe_load((ROOT / "configs" / "models" / "mini.yaml").read_text())


def test_predict_falls_back_to_it_without_other_weights(tmp_path, monkeypatch, capsys):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "empty"))
    arguments = ["--output", str(tmp_path / "run"), "--model.steps", "2", "--data.seeds", "[1]"]
    assert main(["predict", "--config", str(ROOT / "configs" / "castle_bell.yaml"), *arguments]) == 0
    (warned,) = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    for part in ("mini", "model.experts.", "HF_HUB_OFFLINE is set", "Unset it", "model.fallback to null"):
        assert part in warned
    (folder,) = (tmp_path / "run" / "samples").iterdir()
    assert np.asarray(Image.open(folder / "spectrogram.png")).shape == (256, 992)
    info = soundfile.info(folder / "audio.wav")
    assert (info.samplerate, info.frames, info.subtype) == (16_000, 158_720, "PCM_16")
    record = json.loads((folder / "sample.json").read_text())
    assert record["fallback"]
    assert all(weights["embedded"] for weights in record["weights"].values())
