"""Tests of models and tokenizers whose files refer to code."""

import io
import json
import sys

import pytest
import torch
from diffusers import AutoencoderKL
from transformers import AutoTokenizer, CLIPImageProcessor, CLIPModel, CLIPTextModel, CLIPTokenizer

from its.errors import UserError
from its.weights.model_files import DIFFUSERS, TRANSFORMERS, model_files
from its.weights.models import check_shapes, read_model, read_tokenizer, safe_config
from its.weights.source import folder_source
from its_plugins.random_weights import dual_encoders

CODE = {"AutoModel": "trap.Model", "AutoConfig": "trap.Config", "AutoTokenizer": ["trap.Tok", "trap.Tok"]}
CODE |= {"AutoImageProcessor": "trap.Tok", "AutoProcessor": "trap.Tok"}


@pytest.fixture
def clip(tmp_path):
    """Folder of a tiny CLIP model."""
    return dual_encoders.clip(tmp_path / "clip")


@pytest.fixture
def trap(tmp_path, monkeypatch):
    """Fail if a module `trap` is imported; all questions on standard input are answered with yes."""
    monkeypatch.setattr(sys, "stdin", io.StringIO("y\n" * 100))
    monkeypatch.syspath_prepend(str(tmp_path / "clip"))
    yield
    assert not [name for name in sys.modules if "trap" in name.split(".")]


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def read(folder, cls=CLIPModel):
    source = folder_source("x", folder)
    files = model_files(source, "", DIFFUSERS if cls is AutoencoderKL else TRANSFORMERS)
    check_shapes(cls, source, files)
    return read_model(cls, folder, files)


def test_code_and_kernels_that_a_configuration_names_are_left_out(clip, trap):
    before = read(clip)
    (clip / "trap.py").write_text("raise SystemExit('imported')")
    kernel = {"attn_implementation": "owner/kernel", "_attn_implementation": "owner/kernel"}
    inner = json.loads((clip / "config.json").read_text())["text_config"] | kernel | {"auto_map": CODE}
    change(clip / "config.json", auto_map=CODE, text_config=inner, _attn_implementation_internal="owner/k", **kernel)
    after = read(clip)
    assert after.config._attn_implementation == before.config._attn_implementation == "sdpa"
    assert after.text_model.config._attn_implementation == "sdpa"
    tokens = torch.arange(5)[None]
    assert torch.equal(after.get_text_features(tokens).pooler_output, before.get_text_features(tokens).pooler_output)


@pytest.mark.parametrize("cls", [AutoTokenizer, CLIPTokenizer, CLIPImageProcessor])
def test_code_that_a_preprocessor_names_is_not_run(clip, trap, cls):
    (clip / "trap.py").write_text("raise SystemExit('imported')")
    for name in ("tokenizer_config.json", "preprocessor_config.json", "config.json"):
        change(clip / name, auto_map=CODE)
    read_tokenizer(cls, clip)


def test_a_tokenizer_that_has_only_code_is_refused(clip, trap):
    (clip / "trap.py").write_text("raise SystemExit('imported')")
    change(clip / "tokenizer_config.json", auto_map=CODE, tokenizer_class="Trap")
    (clip / "config.json").write_text(json.dumps({"model_type": "trap", "auto_map": CODE}))
    (clip / "tokenizer.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match=f"{clip} can't be read"):
        read_tokenizer(AutoTokenizer, clip)


def test_quantized_weights_are_refused_rather_than_read_as_others(clip, tmp_path):
    change(clip / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    with pytest.raises(UserError, match="quantization_config"):
        read(clip, CLIPTextModel)
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(tmp_path / "vae")
    read(tmp_path / "vae", AutoencoderKL)
    change(tmp_path / "vae/config.json", quantization_config={"quant_method": "gguf"})
    with pytest.raises(UserError, match="quantization_config"):
        read(tmp_path / "vae", AutoencoderKL)


def test_other_settings_are_kept():
    config = {"a": [{"auto_map": 1, "b": None}], "quantization_config": None, "attention_dropout": 0.1}
    assert safe_config(config, "x") == {"a": [{"b": None}], "attention_dropout": 0.1}
