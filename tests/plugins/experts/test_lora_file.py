"""LoRAFile: choice of the file and messages. `test_lora.py` tests the contents."""

import warnings

import pytest
import torch
from weight_files import LFS_POINTER, Code, save_pickle, save_tensors

from its.errors import UserError
from its.weights import WeightsNotFound
from its_plugins.experts.lora_file import LoRAFile, parse_loras

LAYER = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
LORA = {f"{LAYER}.lora_A.weight": torch.zeros(2, 16), f"{LAYER}.lora_B.weight": torch.zeros(16, 2)}
MODEL = {"unet_config": {"cross_attention_dim": 16}, "text_config": {"hidden_size": 16}}


def found(folder, **arguments):
    file = LoRAFile(weights=str(folder), **arguments)
    file.find()
    return file


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["pytorch_lora_weights.safetensors", "pytorch_lora_weights.bin"], "pytorch_lora_weights.safetensors"),
        (["pytorch_lora_weights.bin"], "pytorch_lora_weights.bin"),
        (["adapter_model.safetensors", "other.safetensors"], "adapter_model.safetensors"),
        (["a_style.safetensors", "notes.txt"], "a_style.safetensors"),
    ],
)
def test_the_file_of_a_folder(tmp_path, names, expected):
    for name in names:
        save_tensors(tmp_path / name, LORA)
    file = found(tmp_path, scale=0.5)
    assert file.files == (expected,)
    file.check_against(**MODEL)
    assert file.provenance()["scale"] == 0.5
    assert len(file.provenance()["sha256"]) == 64


def test_settings_of_peft_belong_to_the_file(tmp_path):
    save_tensors(tmp_path / "adapter_model.safetensors", LORA)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert found(tmp_path).files == ("adapter_model.safetensors", "adapter_config.json")


PEFT = {f"base_model.model.{name}": tensor for name, tensor in LORA.items()}


def test_settings_of_a_renamed_peft_file(tmp_path):
    save_tensors(tmp_path / "renamed.safetensors", PEFT)
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 32}')
    for name in ("renamed.safetensors", ""):
        assert found(tmp_path / name).settings == tmp_path / "adapter_config.json"
    save_tensors(tmp_path / "other.safetensors", LORA)  # not a PEFT file, so the settings belong to another file
    assert found(tmp_path / "other.safetensors").settings is None


def test_a_peft_file_without_its_settings_gives_a_warning(tmp_path):
    save_tensors(tmp_path / "renamed.safetensors", PEFT)
    with pytest.warns(
        UserWarning, match=r"renamed\.safetensors .*adapter_config\.json.*alpha is assumed to equal the rank"
    ):
        found(tmp_path / "renamed.safetensors").check_against(**MODEL)
    save_tensors(tmp_path / "renamed.safetensors", PEFT | {f"base_model.model.{LAYER}.alpha": torch.tensor(4.0)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found(tmp_path / "renamed.safetensors").check_against(**MODEL)


def test_folders_without_a_unique_file(tmp_path):
    with pytest.raises(
        WeightsNotFound, match=r"lacks pytorch_lora_weights\.safetensors\. Use the path of the LoRA file"
    ):
        found(tmp_path)
    for name in ("one", "two"):
        save_tensors(tmp_path / f"{name}.safetensors", LORA)
    with pytest.raises(UserError, match=r"has the files one\.safetensors, two\.safetensors; use one of them"):
        found(tmp_path)
    assert found(tmp_path / "two.safetensors").files == ("two.safetensors",)


def test_a_file_of_another_model_or_kind_is_refused(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path, {name: torch.zeros(tensor.shape[0], 99) for name, tensor in LORA.items()} | {"y": torch.ones(1)})
    with pytest.raises(UserError, match="lora: "):
        found(path).check_against(**MODEL)
    path.write_bytes(LFS_POINTER)
    with pytest.raises(UserError, match="git lfs pull"):
        found(path)


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_code_is_refused_and_not_run(tmp_path, form):
    trace = tmp_path / "was run"
    save_pickle({**LORA, "x": Code(trace)}, tmp_path / "x.bin", form)
    with pytest.raises(UserError, match="other objects than tensors"):
        found(tmp_path / "x.bin")
    assert not trace.exists()


@pytest.mark.parametrize(
    "entry", [{"weight": "x"}, {"weights": 3}, {"weights": "x", "scale": "1"}, {"weights": "x", "alpha": 1}, {}]
)
def test_an_entry_with_other_keys_is_refused(entry):
    with pytest.raises(ValueError, match=r"lora: got .*expected {weights: FILE_OR_HUB_ID, scale: 0\.8}"):
        parse_loras([entry])


def test_entries_become_files():
    first, second = parse_loras([{"weights": "x"}, {"weights": "y", "scale": 2, "revision": "v1"}])
    assert (first.weights, first.scale, first.revision) == ("x", 1.0, None)
    assert (second.weights, second.scale, second.revision) == ("y", 2.0, "v1")
    assert parse_loras(None) == []


@pytest.mark.parametrize(
    "entries",
    [
        {"weights": "x"},
        "x",
        ["x"],
        [{"weights": "x", "revision": 5}],
        [{"weights": "x", "scale": float("nan")}],
        [{"weights": "x", "scale": True}],
    ],
)
def test_entries_of_other_types_are_refused(entries):
    with pytest.raises(ValueError, match=r"lora: got .*expected \{weights.* in a list"):
        parse_loras(entries)
