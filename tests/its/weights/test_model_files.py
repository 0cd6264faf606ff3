"""Tests of selecting the files of a model."""

import json

import pytest
from weight_files import save_shards

from its.errors import UserError
from its.weights import WeightsNotFound
from its.weights.model_files import DIFFUSERS, TRANSFORMERS, log_variant, model_files, tokenizer_files
from its.weights.source import Source, folder_source

STEM = "unet/diffusion_pytorch_model"


def source(*names):
    return Source(name="someone/model", folder=None, sizes=dict.fromkeys(names, 1))


def chosen(*names, component="unet", naming=DIFFUSERS, variant=None):
    """Return weights files, variant, and whether they are pickles."""
    config = f"{component}/config.json" if component else "config.json"
    files = model_files(source(config, *names), component, naming, variant=variant)
    return files.weights, files.variant, files.pickled


@pytest.mark.parametrize("component", ["unet", ""])
@pytest.mark.parametrize("naming", [DIFFUSERS, TRANSFORMERS])
def test_full_precision_in_safetensors_comes_first(component, naming):
    inside = f"{component}/" if component else ""
    full, half = (f"{inside}{naming.safetensors}{dotted}.safetensors" for dotted in ("", ".fp16"))
    pickled, half_pickled = (f"{inside}{naming.pickle}{dotted}.bin" for dotted in ("", ".fp16"))
    given = {"component": component, "naming": naming}
    assert chosen(full, half, pickled, half_pickled, **given) == ((full,), None, False)
    assert chosen(half, pickled, half_pickled, **given) == ((pickled,), None, True)  # preferred to another precision
    assert chosen(half, half_pickled, **given) == ((half,), "fp16", False)
    assert chosen(half_pickled, **given) == ((half_pickled,), "fp16", True)
    assert chosen(full, half, variant="fp16", **given) == ((half,), "fp16", False)
    assert chosen(full, half_pickled, variant="fp16", **given) == ((half_pickled,), "fp16", True)


def test_the_only_variant_is_taken_whatever_its_name_and_fp16_before_others():
    bf16, fp16, ema = (f"{STEM}.{word}.safetensors" for word in ("bf16", "fp16", "non_ema"))
    assert chosen(bf16) == ((bf16,), "bf16", False)
    assert chosen(ema, fp16) == ((fp16,), "fp16", False)
    with pytest.raises(UserError, match="unet has the variants bf16, non_ema: set variant to one"):
        chosen(ema, bf16)
    assert chosen(ema, bf16, variant="bf16") == ((bf16,), "bf16", False)


def test_the_error_for_a_missing_variant_lists_existing_ones():
    with pytest.raises(WeightsNotFound) as missing:
        chosen(f"{STEM}.bf16.safetensors", f"{STEM}.fp16.bin", variant="fp32")
    assert "someone/model has no fp32 weights in unet" in missing.value.reason
    assert "Set variant to bf16 or fp16" in missing.value.remedy
    with pytest.raises(WeightsNotFound) as missing:
        chosen(f"{STEM}.safetensors", variant="fp16")
    assert "Set variant to null" in missing.value.remedy


def test_a_variant_beside_full_precision_names_both():
    with pytest.raises(WeightsNotFound) as missing:
        chosen(f"{STEM}.safetensors", f"{STEM}.bf16.safetensors", variant="fp16")
    assert "null" in missing.value.remedy
    assert "bf16" in missing.value.remedy


def test_without_weights_both_names_are_given():
    with pytest.raises(WeightsNotFound, match=rf"lacks {STEM}\.safetensors and {STEM}\.bin"):
        chosen("unet/model.safetensors", "vae/diffusion_pytorch_model.safetensors")
    with pytest.raises(WeightsNotFound, match=r"lacks unet/config\.json"):
        model_files(source(f"{STEM}.safetensors"), "unet", DIFFUSERS)


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
@pytest.mark.parametrize("variant", [None, "fp16"])
@pytest.mark.parametrize("component", ["unet", ""])
def test_shards_come_with_their_index(tmp_path, ending, variant, component):
    inside = f"{component}/" if component else ""
    (tmp_path / component).mkdir(exist_ok=True)
    (tmp_path / component / "config.json").write_text("{}")
    names = [f"{inside}{name}" for name in save_shards(tmp_path / component, DIFFUSERS.pickle, ending, variant=variant)]
    for asked in {None, variant}:
        files = model_files(folder_source("x", tmp_path), component, DIFFUSERS, variant=asked)
        assert (list(files.weights), files.variant, files.pickled) == (names, variant, ending == "bin")
    assert len(files.names) == len(set(files.names)) == 4  # including config.json; the index counts once
    (tmp_path / names[2]).unlink()
    with pytest.raises(WeightsNotFound, match=rf"lacks {names[2]}, which {names[0]} lists"):
        model_files(folder_source("x", tmp_path), component, DIFFUSERS)


@pytest.mark.parametrize(("naming", "shards"), [(DIFFUSERS, True), (TRANSFORMERS, False)])
def test_a_whole_file_beside_shards_is_chosen_as_the_library_reads(tmp_path, naming, shards):
    (tmp_path / "config.json").write_text("{}")
    names = save_shards(tmp_path, naming.safetensors, "safetensors")
    whole = f"{naming.safetensors}.safetensors"
    (tmp_path / whole).write_bytes(b"")
    assert model_files(folder_source("x", tmp_path), "", naming).weights == (tuple(names) if shards else (whole,))


def test_the_recorded_files_are_those_that_diffusers_reads(tmp_path):
    import torch
    from diffusers import AutoencoderKL
    from safetensors.torch import load_file, save_file

    from its.weights.models import read_model

    model = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in model.state_dict().items()}
    save_file(zeros, tmp_path / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    files = model_files(folder_source("x", tmp_path), "", DIFFUSERS)
    recorded = {}
    for name in files.weights:
        if name.endswith(".safetensors"):
            recorded |= load_file(tmp_path / name)
    read = read_model(AutoencoderKL, tmp_path, files, low_cpu_mem_usage=False).state_dict()
    assert recorded.keys() == read.keys()
    assert all(torch.equal(recorded[name], read[name]) for name in read)


def test_an_adapter_config_that_names_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match=r"adapter_config\.json .*remove the file"):
        model_files(folder_source("x", tmp_path), "", TRANSFORMERS)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("{", "is not JSON"),
        ("{}", "no weight_map"),
        ('{"weight_map": {}}', "no weight_map"),
        ('{"weight_map": {"x": 1}}', "no weight_map"),
        (json.dumps({"weight_map": ["x"]}), "no weight_map"),
    ],
)
def test_a_damaged_index_is_named(tmp_path, index, message):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError, match=rf"model\.safetensors\.index\.json .*{message}.*get the weights again"):
        model_files(folder_source("x", tmp_path), "", TRANSFORMERS)


def test_a_shard_outside_the_folder_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {"x": "../../elsewhere.safetensors"}}')
    with pytest.raises(WeightsNotFound, match=r"lacks \.\./\.\./elsewhere"):
        model_files(folder_source("x", tmp_path), "", TRANSFORMERS)


def test_every_json_file_beside_the_weights_belongs_to_the_model():
    names = ["unet/config.json", "unet/known_words.json", f"{STEM}.safetensors", "config.json", "unet/a/b.json"]
    files = model_files(source(*names), "unet", DIFFUSERS)
    assert set(files.others) == {"unet/config.json", "unet/known_words.json"}
    assert files.config == "unet/config.json"


def test_a_tokenizer_needs_a_vocabulary():
    vocabularies = ("vocab.json", "tokenizer.json")
    names = ["tokenizer/tokenizer_config.json", "tokenizer/merges.txt", "tokenizer/tokenizer.json"]
    assert set(tokenizer_files(source(*names), "tokenizer", vocabularies=vocabularies)) == set(names)
    with pytest.raises(WeightsNotFound, match=r"lacks tokenizer/vocab\.json"):
        tokenizer_files(source(*names[:2]), "tokenizer", vocabularies=vocabularies)
    with pytest.raises(WeightsNotFound, match=r"lacks tokenizer/tokenizer_config\.json"):
        tokenizer_files(source(*names[1:]), "tokenizer", vocabularies=vocabularies)


def test_a_variant_used_by_default_is_logged_once(capsys):
    for _ in range(2):
        log_variant("someone/model", "fp16")
    assert capsys.readouterr().err.count("its: someone/model: ") == 1
    log_variant("someone/other", "fp16")
    assert "fp16" in capsys.readouterr().err


def test_a_partial_cache_does_not_decide_for_a_variant(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.fp16.safetensors").write_bytes(b"")
    source = folder_source("x", tmp_path)
    source.strict = True  # the hub can still be queried
    with pytest.raises(WeightsNotFound, match=r"lacks model\.safetensors"):
        model_files(source, "", TRANSFORMERS)
    source.strict = False
    assert model_files(source, "", TRANSFORMERS).variant == "fp16"
