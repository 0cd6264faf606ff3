"""A checkpoint file and LoRA files of one's own, each by one argument."""

import hashlib
import json
from functools import cache
from io import BytesIO

import hub_trees
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from its_plugins.experts import single_file
from its_plugins.experts.original_layout import original_layout
from its_plugins.random_weights import stable_diffusion as random_weights

VISUAL = "--model.experts.visual.init_args"
ATTENTION = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
ATTENTION_OF_DIFFUSERS = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
PEFT = {"A": (4, 16), "B": (16, 4)}
TOKENS = 49_408
TOKENIZER = cache(single_file.tokenizer)  # the real one, which takes most of a second to make


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Tiny configurations and weights with the vocabulary of CLIP, in the layout of diffusers."""
    folder = random_weights.stable_diffusion(tmp_path_factory.mktemp("tiny"), seed=5)
    config = json.loads((folder / "text_encoder" / "config.json").read_text())
    config |= {"vocab_size": TOKENS, "eos_token_id": TOKENS - 1}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        CLIPTextModel(CLIPTextConfig(**config)).save_pretrained(folder / "text_encoder")
    return folder


@pytest.fixture
def tensors(tiny, monkeypatch):
    """Tensors of a single-file checkpoint in the original layout, of a size that its configurations are set to."""
    monkeypatch.setattr(single_file, "CONFIGS", tiny)
    monkeypatch.setattr(single_file, "tokenizer", TOKENIZER)
    found = {}
    for part, stem in (
        ("unet", "diffusion_pytorch_model"),
        ("vae", "diffusion_pytorch_model"),
        ("text_encoder", "model"),
    ):
        config = json.loads((tiny / part / "config.json").read_text())
        found |= original_layout(load_file(tiny / part / f"{stem}.safetensors"), part, config)
    return found


@pytest.fixture
def checkpoint(tensors, tmp_path):
    """The checkpoint as safetensors."""
    save_file(tensors, tmp_path / "community.safetensors")
    return tmp_path / "community.safetensors"


def write_lora(path, *, seed=0):
    """A LoRA in kohya's naming, of one layer of the UNet and one of the text encoder."""
    noise = torch.Generator().manual_seed(seed)
    tensors = {}
    for layer in (f"lora_unet_{ATTENTION}", "lora_te_text_model_encoder_layers_0_self_attn_q_proj"):
        for name, shape in (("lora_down", (4, 16)), ("lora_up", (16, 4))):
            tensors[f"{layer}.{name}.weight"] = torch.randn(shape, generator=noise)
        tensors[f"{layer}.alpha"] = torch.tensor(4.0)
    path.parent.mkdir(exist_ok=True)
    save_file(tensors, path)
    return path


@pytest.fixture
def make(cached):
    """Make the sample of some arguments in a new folder; return record and picture."""
    runs = iter(range(100))

    def one(*arguments, **options):
        cached.run = cached.run.with_name(f"run-{next(runs)}")
        record = cached.made(*arguments, "--no-metadata", **options)
        return record, (cached.run / "samples" / record["id"] / "spectrogram.png").read_bytes()

    return one


def test_a_checkpoint_file_is_expert_and_codec(make, checkpoint):
    record, picture = make(f"{VISUAL}.weights={checkpoint}")
    assert record["weights"]["experts.visual"]["name"] == str(checkpoint)
    assert record["weights"]["codec"] == record["weights"]["experts.visual"]
    assert len(record["weights"]["codec"]["sha256"]) == 64
    assert record["weights"]["experts.audio"]["name"] == hub_trees.AUFFUSION
    assert record["fallback"] is None
    assert picture != make()[1]


def test_a_checkpoint_equals_the_folder_that_it_was_made_from(make, checkpoint, tiny, monkeypatch):
    _, picture = make(f"{VISUAL}.weights={checkpoint}")
    monkeypatch.setattr("its_plugins.experts.stable_diffusion.read_tokenizer", lambda *_: TOKENIZER())
    audio = f"--model.experts.audio.init_args.weights={tiny}"  # both with this tokenizer
    _, again = make(f"{VISUAL}.weights={tiny}", audio)
    _, other = make(f"{VISUAL}.weights={checkpoint}", audio)
    assert again == other != picture


def test_a_checkpoint_is_known_by_its_content(make, checkpoint, tensors, tmp_path):
    first, _ = make(f"{VISUAL}.weights={checkpoint}")
    (tmp_path / "elsewhere").mkdir()
    same = checkpoint.rename(tmp_path / "elsewhere" / "renamed.safetensors")
    assert make(f"{VISUAL}.weights={same}")[0]["id"] == first["id"]
    name = "model.diffusion_model.out.2.bias"
    save_file(tensors | {name: tensors[name] + 1}, tmp_path / "other.safetensors")
    assert make(f"{VISUAL}.weights={tmp_path / 'other.safetensors'}")[0]["id"] != first["id"]


def test_a_pickled_checkpoint_and_one_on_the_hub(make, cached, tensors, checkpoint, tmp_path):
    torch.save({"state_dict": tensors, "global_step": 7}, tmp_path / "community.ckpt")
    _, picture = make(f"{VISUAL}.weights={tmp_path / 'community.ckpt'}")
    (tmp_path / "repository").mkdir()
    commit = cached.hub.add("someone/community", checkpoint.rename(tmp_path / "repository" / checkpoint.name).parent)
    name = "someone/community/community.safetensors"
    online, same = make(f"{VISUAL}.weights={name}")
    assert online["weights"]["experts.visual"] == {
        "name": name,
        "revision": commit,
        "files": ["community.safetensors"],
    }
    assert cached.weights_served() == [name]
    assert picture == same


def test_a_pickled_checkpoint_on_the_hub_is_read_with_its_prediction_type(make, cached, tensors, tmp_path):
    for name, more in (("plain", {}), ("v", {"v_pred": torch.zeros(1)})):
        (tmp_path / name).mkdir()
        torch.save({"state_dict": tensors | more}, tmp_path / name / "model.ckpt")
        cached.hub.add(f"someone/{name}", tmp_path / name)
    make(f"{VISUAL}.weights=someone/plain/model.ckpt")
    cached.run = cached.run.with_name("v")
    first = cached.predict(f"{VISUAL}.weights=someone/v/model.ckpt")
    assert first.status == 2
    assert "prediction type" in first.err
    assert "run the same command again" in first.err
    record, _ = make(f"{VISUAL}.weights=someone/v/model.ckpt")
    assert record["weights"]["experts.visual"]["prediction_type"] == "v_prediction"


def test_a_lora_changes_the_sample_and_its_id_by_content_and_scale(make, tmp_path):
    plain, plain_picture = make()
    lora = write_lora(tmp_path / "style.safetensors")
    record, picture = make(f"{VISUAL}.lora=[{{weights: {lora}, scale: 0.8}}]")
    (entry,) = record["weights"]["experts.visual"]["lora"]
    assert (entry["name"], entry["scale"]) == (str(lora), 0.8)
    assert entry["sha256"] == hashlib.sha256(lora.read_bytes()).hexdigest()
    assert record["weights"]["experts.audio"] == plain["weights"]["experts.audio"]

    weaker, weaker_picture = make(f"{VISUAL}.lora=[{{weights: {lora}, scale: 0.4}}]")
    second = write_lora(tmp_path / "second.safetensors", seed=1)
    other, other_picture = make(f"{VISUAL}.lora=[{{weights: {second}, scale: 0.8}}]")
    assert len({run["id"] for run in (plain, record, weaker, other)}) == 4
    assert len({plain_picture, picture, weaker_picture, other_picture}) == 4


def test_a_lora_is_fused_into_a_checkpoint(make, checkpoint, tmp_path):
    plain, picture = make(f"{VISUAL}.weights={checkpoint}")
    lora = write_lora(tmp_path / "style.safetensors")
    record, other = make(f"{VISUAL}.weights={checkpoint}", f"{VISUAL}.lora=[{{weights: {lora}, scale: 0.8}}]")
    assert record["id"] != plain["id"]
    assert picture != other


def test_the_path_of_a_lora_is_not_part_of_the_id(make, tmp_path):
    first, picture = make(f"{VISUAL}.lora=[{{weights: {write_lora(tmp_path / 'style.safetensors')}}}]")
    second, same = make(f"{VISUAL}.lora=[{{weights: {write_lora(tmp_path / 'moved' / 'renamed.safetensors')}}}]")
    assert first["id"] == second["id"]
    assert picture == same


def test_a_lora_on_the_hub_is_downloaded_with_the_models(make, cached, tmp_path):
    write_lora(tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    commit = cached.hub.add("someone/style", tmp_path / "lora")
    record, picture = make(f"{VISUAL}.lora=[{{weights: someone/style, scale: 0.8}}]")
    assert record["weights"]["experts.visual"]["lora"] == [
        {"name": "someone/style", "revision": commit, "files": ["pytorch_lora_weights.safetensors"], "scale": 0.8}
    ]
    local = tmp_path / "lora" / "pytorch_lora_weights.safetensors"
    assert make(f"{VISUAL}.lora=[{{weights: {local}, scale: 0.8}}]")[1] == picture


def test_several_loras_are_fused(make, tmp_path):
    first, second = (write_lora(tmp_path / f"{n}.safetensors", seed=n) for n in (1, 2))
    record, _ = make(f"{VISUAL}.lora=[{{weights: {first}, scale: 0.8}}, {{weights: {second}}}]")
    assert [entry["scale"] for entry in record["weights"]["experts.visual"]["lora"]] == [0.8, 1.0]


def test_a_lora_survives_its_own_config_and_rerun(make, cached, tmp_path):
    lora = write_lora(tmp_path / "style.safetensors")
    first, picture = make(f"{VISUAL}.lora=[{{weights: {lora}, scale: 0.8}}]")
    folder = cached.run
    cached.run = folder.with_name("again")
    assert cached.its("predict", f"--config={folder}/its_config.yaml", f"--output={cached.run}").status == 0
    assert [record["id"] for record in cached.records()] == [first["id"]]
    sample = folder / "samples" / first["id"] / "sample.json"
    outcome = cached.its("rerun", sample, f"--output={folder.with_name('rerun')}")
    assert outcome.status == 0, outcome.err
    made = folder.with_name("rerun") / "samples" / first["id"] / "spectrogram.png"
    assert Image.open(made).tobytes() == Image.open(BytesIO(picture)).tobytes()


def test_settings_beside_a_lora_of_peft_count_however_it_is_named(make, cached, tmp_path):
    folder, layer = tmp_path / "peft", f"base_model.model.unet.{ATTENTION_OF_DIFFUSERS}"
    folder.mkdir()
    noise = torch.Generator().manual_seed(0)
    tensors = {f"{layer}.lora_{letter}.weight": torch.randn(shape, generator=noise) for letter, shape in PEFT.items()}
    save_file(tensors, folder / "adapter_model.safetensors")
    save_file(tensors, tmp_path / "without_settings.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 32}))
    cached.hub.add("someone/peft", folder)
    _, expected = make(f"{VISUAL}.lora=[{{weights: {tmp_path}/without_settings.safetensors, scale: 8}}]")
    for where in (folder, folder / "adapter_model.safetensors", "someone/peft/adapter_model.safetensors"):
        record, picture = make(f"{VISUAL}.lora=[{{weights: {where}}}]")
        assert picture == expected, where
        assert record["weights"]["experts.visual"]["lora"][0]["name"] == str(where)
