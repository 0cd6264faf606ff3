import gzip
import json
import warnings

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextModel

from its.errors import UserError
from its.weights.files import shapes_of, tensors_of
from its_plugins.experts import single_file
from its_plugins.experts.original_layout import original_layout
from its_plugins.random_weights import stable_diffusion as random_weights

CLASSES = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
PARTS = list(CLASSES)
UNET, VAE, TEXT = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.transformer."


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_weights.stable_diffusion(tmp_path_factory.mktemp("stable-diffusion"))


@pytest.fixture
def configs(folder, monkeypatch):
    """Replace Stable Diffusion v1.5's configurations by the tiny model's."""
    monkeypatch.setattr(single_file, "CONFIGS", folder)


@pytest.fixture(scope="module")
def models(folder):
    return {part: cls.from_pretrained(folder / part) for part, cls in CLASSES.items()}


@pytest.fixture(scope="module")
def checkpoint(folder, models):
    tensors = {}
    for part, model in models.items():
        config = json.loads((folder / part / "config.json").read_text())
        tensors |= original_layout(model.state_dict(), part, config)
    return tensors | {f"{TEXT}text_model.embeddings.position_ids": torch.arange(77)[None]}


def shapes(tensors):
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def assert_same(model, expected, dtype=torch.float32):
    assert type(model) is type(expected)
    got, wanted = model.state_dict(), expected.state_dict()
    assert list(got) == list(wanted)
    for name, tensor in got.items():
        assert (tensor.dtype, tensor.device.type) == (dtype, "cpu")
        torch.testing.assert_close(tensor, wanted[name].to(dtype), rtol=0, atol=0)


def outputs(model):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        if isinstance(model, CLIPTextModel):
            return model(torch.arange(77)[None])[0]
        latents = torch.randn(1, 4, 8, 8, generator=generator)
        if isinstance(model, AutoencoderKL):
            return model.decode(latents).sample
        return model(latents, 500, torch.randn(1, 77, 16, generator=generator)).sample


@pytest.mark.parametrize("part", PARTS)
def test_each_part_equals_the_model_that_the_checkpoint_was_made_from(part, checkpoint, models, configs):
    state = torch.get_rng_state()
    single_file.check(shapes(checkpoint), part=part, where="a.safetensors")
    model = single_file.read(checkpoint, part)
    assert_same(model, models[part])
    torch.testing.assert_close(outputs(model), outputs(models[part]), rtol=0, atol=0)
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("part", PARTS)
def test_the_layout_is_the_original_one(part, checkpoint):
    known = {
        "unet": [
            "time_embed.0.weight",
            "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight",
            "input_blocks.2.0.op.weight",
            "middle_block.1.proj_in.weight",
            "output_blocks.1.1.conv.weight",
            "out.2.bias",
        ],
        "vae": [
            "encoder.down.0.block.0.norm1.weight",
            "encoder.mid.attn_1.proj_out.weight",
            "decoder.up.3.upsample.conv.weight",
            "post_quant_conv.bias",
        ],
        "text_encoder": ["text_model.encoder.layers.1.self_attn.q_proj.weight", "text_model.final_layer_norm.bias"],
    }
    prefix = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}[part]
    assert {f"{prefix}{name}" for name in known[part]} <= set(checkpoint)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixed_dtypes_become_the_default_dtype_on_the_cpu(part, dtype, checkpoint, models, configs):
    kinds = [torch.float16, torch.float32, torch.bfloat16]
    mixed = {n: t.to(kinds[i % 3]) if t.is_floating_point() else t for i, (n, t) in enumerate(checkpoint.items())}
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            model = single_file.read(mixed, part)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {(p.dtype, p.device.type) for p in model.parameters()} == {(dtype, "cpu")}
    for name, got in model.named_parameters():
        torch.testing.assert_close(got.float(), models[part].state_dict()[name], rtol=0.02, atol=0.02)


def test_vae_attention_as_matrices(checkpoint, models, configs):
    flat = {name: tensor[:, :, 0, 0] if ".mid.attn_1." in name and tensor.ndim == 4 else tensor
            for name, tensor in checkpoint.items()}  # fmt: skip
    assert checkpoint[f"{VAE}decoder.mid.attn_1.q.weight"].ndim == 4
    assert_same(single_file.read(flat, "vae"), models["vae"])


@pytest.mark.parametrize("part", PARTS)
def test_wrapped_checkpoint_of_a_trainer_with_an_ema_copy(part, checkpoint, models, configs, tmp_path):
    ema = {f"model_ema.{name.replace('.', '')}": torch.zeros_like(tensor) for name, tensor in checkpoint.items()}
    content = {"state_dict": checkpoint | ema, "epoch": 3, "optimizer_states": [{"step": torch.tensor(1)}]}
    assert len(ema) > 100
    torch.save(content, tmp_path / "a.ckpt")
    assert_same(single_file.read(tensors_of(tmp_path / "a.ckpt"), part), models[part])
    single_file.check(shapes_of(tmp_path / "a.ckpt"), part=part, where="a.ckpt")


def test_text_encoder_of_an_early_checkpoint_without_the_inner_prefix(checkpoint, models, configs):
    early = {name.replace(f"{TEXT}text_model.", TEXT): tensor for name, tensor in checkpoint.items()}
    single_file.check(shapes(early), part="text_encoder", where="a.ckpt")
    assert_same(single_file.read(early, "text_encoder"), models["text_encoder"])


@pytest.mark.parametrize(
    ("part", "parameters"), [("unet", 859_520_964), ("vae", 83_653_863), ("text_encoder", 123_060_480)]
)
def test_shipped_configurations_have_the_real_size_and_layout(part, parameters):
    config = json.loads((single_file.CONFIGS / part / "config.json").read_text())
    with torch.device("meta"):
        cls = CLASSES[part]
        model = cls(cls.config_class(**config)) if part == "text_encoder" else cls.from_config(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    tensors = original_layout(model.state_dict(), part, config)
    single_file.check(shapes(tensors), part=part, where="a.safetensors")
    _, converted = single_file._convert(tensors, part, where="a")
    assert shapes(converted) == shapes(model.state_dict())
    known = {
        "unet": {
            "input_blocks.3.0.op.weight": (320, 320, 3, 3),
            "output_blocks.2.1.conv.weight": (1280, 1280, 3, 3),
            "output_blocks.5.2.conv.weight": (1280, 1280, 3, 3),
            "output_blocks.11.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
            "input_blocks.11.0.emb_layers.1.weight": (1280, 1280),
        },
        "vae": {"encoder.down.2.block.0.nin_shortcut.weight": (512, 256, 1, 1), "quant_conv.weight": (8, 8, 1, 1)},
        "text_encoder": {"text_model.embeddings.token_embedding.weight": (49408, 768)},
    }
    prefix = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}[part]
    for name, shape in known[part].items():
        assert tuple(tensors[prefix + name].shape) == shape


@pytest.mark.parametrize("part", PARTS)
def test_missing_tensors_are_named_as_in_the_file(part, checkpoint, configs):
    prefix = {"unet": UNET, "vae": VAE, "text_encoder": TEXT}[part]
    lost = [name for name in checkpoint if name.startswith(prefix) and name.endswith(".weight")][7]
    tensors = {name: tensor for name, tensor in checkpoint.items() if name != lost}
    with pytest.raises(
        UserError, match=rf"^a\.st: .* is incomplete. It lacks 1 tensors .* for example {lost}; get the file again"
    ):
        single_file.read(tensors, part, where="a.st")


def test_tensors_of_another_shape_and_foreign_ones_are_refused(checkpoint, configs):
    name = f"{UNET}out.2.bias"
    with pytest.raises(UserError, match=rf"{name} has shape \(8,\), expected \(4,\) in the UNet"):
        single_file.read(checkpoint | {name: torch.zeros(8)}, "unet")
    more = {f"{UNET}middle_block.1.fuser.weight": torch.zeros(1)}
    with pytest.raises(UserError, match=r"the UNet has 1 tensors that .* does not have, for example mid_block.*fuser"):
        single_file.read(checkpoint | more, "unet")


def test_markers_change_the_scheduler():
    plain = single_file.scheduler_config({})
    assert (plain["prediction_type"], plain["rescale_betas_zero_snr"]) == ("epsilon", False)
    assert plain["beta_end"] == 0.012
    marked = single_file.scheduler_config({"v_pred": (0,), "ztsnr": (0,)})
    assert (marked["prediction_type"], marked["rescale_betas_zero_snr"]) == ("v_prediction", True)


def test_tokenizer():
    tokenizer = single_file.tokenizer()
    assert len(tokenizer) == tokenizer.vocab_size == 49_408
    assert tokenizer.convert_tokens_to_ids(["<|startoftext|>", "<|endoftext|>"]) == [49406, 49407]
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("A  Photo\nof a CAT").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("").input_ids == [49406, 49407]
    assert (tokenizer.model_max_length, tokenizer.pad_token_id) == (77, 49407)
    padded = tokenizer(["a cat", "x " * 100], padding="max_length", truncation=True, return_tensors="pt").input_ids
    assert padded.shape == (2, 77)
    assert padded[0].tolist() == [49406, 320, 2368] + 74 * [49407]
    assert tokenizer.decode(tokenizer("a photo of a cat").input_ids, skip_special_tokens=True) == "a photo of a cat"
    emoji = tokenizer("naïve 猫 🐈").input_ids
    assert 49407 not in emoji[1:-1]


def test_tokenizer_equals_one_read_from_files_of_the_hub(tmp_path):
    from transformers import CLIPTokenizer

    ours = single_file.tokenizer()
    with gzip.open(single_file.CONFIGS / "tokenizer" / "merges.txt.gz", "rt", encoding="utf-8") as file:
        text = file.read()
    assert text.startswith("#version: 0.2\ni n\n")
    assert text.count("\n") == 48_895
    (tmp_path / "merges.txt").write_text(text, encoding="utf-8")
    (tmp_path / "vocab.json").write_text(json.dumps(ours.get_vocab()), encoding="utf-8")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    settings = special | {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    theirs = CLIPTokenizer.from_pretrained(str(tmp_path), local_files_only=True)
    for text in ("a painting of castle towers, grayscale", "it's  100% <|endoftext|>", "naïve 猫 🐈", "word" * 50):
        assert ours(text).input_ids == theirs(text).input_ids


TOKENS = f"{TEXT}text_model.embeddings.token_embedding.weight"
CONV_IN = f"{UNET}input_blocks.0.0.weight"
REAL = {CONV_IN: (320, 4, 3, 3),
        f"{UNET}input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
        f"{VAE}encoder.conv_in.weight": (128, 3, 3, 3),
        TOKENS: (49408, 768)}  # fmt: skip


def real_shapes():
    """Return names and shapes of a complete checkpoint of Stable Diffusion v1."""
    found = {}
    for part in PARTS:
        config = json.loads((single_file.CONFIGS / part / "config.json").read_text())
        model = single_file._build(part, config)
        found |= shapes(original_layout(model.state_dict(), part, config))
    return found


@pytest.mark.parametrize("part", PARTS)
def test_real_shapes_pass(part):
    real = real_shapes()
    assert real.items() >= REAL.items()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        single_file.check(real, part=part, where="a.safetensors")


def test_any_missing_tensor_of_the_vae_is_named(checkpoint, configs):
    """The conversion by diffusers raises KeyError for some of them."""
    for name in [name for name in checkpoint if name.startswith(VAE)]:
        rest = {other: shape for other, shape in shapes(checkpoint).items() if other != name}
        with pytest.raises(UserError, match="the VAE is incomplete"):
            single_file.check(rest, part="vae", where="a.safetensors")


def test_a_wrong_shape_or_a_missing_tensor_is_refused_by_shapes():
    real = real_shapes()
    real[f"{UNET}out.2.weight"] = (4, 64, 3, 3)
    with pytest.raises(UserError, match=r"out\.2\.weight has shape \(4, 64, 3, 3\), expected \(4, 320, 3, 3\)"):
        single_file.check(real, part="unet", where="a.safetensors")
    del real[f"{UNET}out.2.weight"]
    with pytest.raises(UserError, match=r"lacks 1 tensors .*for example model\.diffusion_model\.out\.2\.weight"):
        single_file.check(real, part="unet", where="a.safetensors")


def without(prefix):
    return {name: shape for name, shape in REAL.items() if not name.startswith(prefix)}


@pytest.mark.parametrize(
    ("shapes", "part", "message"),
    [
        (without(VAE), "vae", r"has no VAE \(first_stage_model\.\*\), only the UNet and text encoder; use a full"),
        (without(UNET), "unet", r"has no UNet \(model\.diffusion_model\.\*\), only the VAE and text encoder"),
        (without(TEXT), "text_encoder", r"has no text encoder \(cond_stage_model\.transformer\.\*\), only the UNet"),
        (REAL | {CONV_IN: (320, 9, 3, 3)}, "unet", r"an inpainting model: .* 9 input channels"),
        (REAL | {CONV_IN: (320, 8, 3, 3)}, "unet", r"InstructPix2Pix .* 8 .*, expected 4"),
        (REAL | {CONV_IN: (320, 7, 3, 3)}, "unet", r"is another model: its UNet has 7"),
        (without(TEXT) | {"cond_stage_model.model.ln_final.weight": (1024,)}, "unet", r"is a Stable Diffusion v2"),
        (REAL | {f"{UNET}x.attn2.to_k.weight": (320, 1024)}, "unet", r"Diffusion v2: .* width 1024, expected 768"),
        (REAL | {f"{UNET}x.attn2.to_k.weight": (320, 2048)}, "unet", r"of Stable Diffusion XL: .* width 2048"),
        (without(TEXT) | {"conditioner.embedders.0.x": (1,)}, "vae", r"is a Stable Diffusion XL checkpoint; expected"),
        (REAL | {TOKENS: (9, 512)}, "text_encoder", r"width 512, .* 768"),
        ({f"{UNET}double_blocks.0.x": (1,)}, "unet", r"is a Flux checkpoint"),
        ({f"{UNET}joint_blocks.0.x": (1,)}, "unet", r"is a Stable Diffusion 3 checkpoint"),
        ({"control_model.time_embed.0.weight": (1,)}, "unet", r"is a ControlNet"),
        ({"conv_in.weight": (1,), "down_blocks.0.x": (1,)}, "unet", r"is a UNet in the layout of diffusers; expected"),
        ({"encoder.down_blocks.0.x": (1,)}, "vae", r"is a VAE in the layout of diffusers"),
        ({"encoder.down.0.block.0.conv1.weight": (1,)}, "vae", r"is a VAE alone"),
        ({"text_model.embeddings.token_embedding.weight": (1,)}, "text_encoder", r"is a CLIP text encoder alone"),
        ({"lora_unet_x.lora_down.weight": (4, 320)}, "unet", r"is a LoRA; expected"),
        ({"unet.x.lora_A.weight": (4, 320)}, "unet", r"is a LoRA"),
        ({"emb_params": (1, 768)}, "text_encoder", r"is a textual inversion embedding"),
        ({"weight": (1,)}, "unet", r"is not a checkpoint that can be read: it has weight; expected"),
        ({}, "unet", r"it has no tensors"),
    ],
)  # fmt: skip
def test_other_files_are_refused_by_name_and_shape(shapes, part, message):
    with pytest.raises(UserError, match=rf"a\.safetensors .*{message}|a\.safetensors {message}"):
        single_file.check(shapes, part=part, where="a.safetensors")
