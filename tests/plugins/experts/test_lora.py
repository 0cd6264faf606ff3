import copy
import json
import re

import pytest
import torch
from diffusers import StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextModel

from its.errors import UserError
from its_plugins.experts import lora
from its_plugins.experts.cached_conditioning_unet import CachedConditioningUNet
from its_plugins.random_weights import stable_diffusion as random_weights

ATTENTION = re.compile(r"to_[qkv]|to_out\.0|[qkv]_proj|out_proj|fc[12]|ff\.net\.(0\.proj|2)")
CONFIGS = {"unet_config": {"cross_attention_dim": 16}, "text_config": {"hidden_size": 16}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_weights.stable_diffusion(tmp_path_factory.mktemp("stable-diffusion"))


@pytest.fixture
def models(folder):
    # float64, since the text encoder's random weights amplify rounding.
    unet, text_encoder = UNet2DConditionModel, CLIPTextModel
    return (
        unet.from_pretrained(folder / "unet").double(),
        text_encoder.from_pretrained(folder / "text_encoder").double(),
    )


def layers(models, *, convolutions=False):
    """Yield (model, name, weight) of the layers that a LoRA usually changes."""
    for prefix, model in zip(("unet", "text_encoder"), models, strict=True):
        for name, module in model.named_modules():
            attention = isinstance(module, nn.Linear) and re.search(rf"(?:^|\.)(?:{ATTENTION.pattern})$", name)
            if attention or (convolutions and isinstance(module, nn.Conv2d)):
                yield prefix, name, module.weight


def pairs(models, *, seed=0, rank=4, convolutions=False):
    """{(model, layer): (down, up)} of a random LoRA that changes the outputs visibly."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for prefix, name, weight in layers(models, convolutions=convolutions):
        down = torch.randn(rank, *weight.shape[1:], generator=generator) / weight[0].numel() ** 0.5
        up = torch.randn(len(weight), rank, *[1] * (weight.ndim - 2), generator=generator) / rank**0.5
        made[prefix, name] = down, up
    return made


def in_diffusers_naming(made):
    return {
        f"{prefix}.{'text_model.' * (prefix == 'text_encoder')}{name}.lora_{letter}.weight": tensor
        for (prefix, name), tensors in made.items()
        for letter, tensor in zip("AB", tensors, strict=True)
    }


def in_former_diffusers_naming(made):
    named = {}
    for (prefix, name), tensors in made.items():
        middle = "lora" if prefix == "unet" else "lora_linear_layer"
        stem = f"{prefix}.{'text_model.' * (prefix == 'text_encoder')}{name}.{middle}"
        named |= {f"{stem}.{word}.weight": t for word, t in zip(("down", "up"), tensors, strict=True)}
    return named


def in_processor_naming(made):
    named = {}
    for (_, name), tensors in made.items():
        if match := re.fullmatch(r"(.+\.attn[12])\.(to_[qkv]|to_out)(?:\.0)?", name):
            stem = f"unet.{match[1]}.processor.{match[2]}_lora"
        elif match := re.fullmatch(r"(.+\.self_attn)\.([qkv]|out)_proj", name):
            stem = f"text_encoder.text_model.{match[1]}.to_{match[2]}_lora"
        else:
            continue
        named |= {f"{stem}.{word}.weight": t for word, t in zip(("down", "up"), tensors, strict=True)}
    return named


def in_peft_naming(made):
    return {
        f"base_model.model.{prefix}.{name}.lora_{letter}.default.weight": tensor
        for (prefix, name), tensors in made.items()
        for letter, tensor in zip("AB", tensors, strict=True)
    }


def in_bare_peft_naming(made):
    return {f"base_model.model.{name.split('.', 3)[3]}": t for name, t in in_peft_naming(made).items()}


def in_kohya_naming(made, alpha=None):
    named = {}
    for (prefix, name), (down, up) in made.items():
        stem = f"{'lora_unet' if prefix == 'unet' else 'lora_te_text_model'}_{name.replace('.', '_')}"
        named |= {f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up}
        named[f"{stem}.alpha"] = torch.tensor(float(len(down) if alpha is None else alpha))
    return named


def outputs(unet, text_encoder):
    """Return the noise prediction (2, 4, 8, 8) and text hidden states (2, 77, 16)."""
    generator = torch.Generator().manual_seed(1)
    dtype = unet.dtype
    latents = torch.randn(2, 4, 8, 8, generator=generator).to(dtype)
    tokens = torch.randint(0, 100, (2, 77), generator=generator)
    with torch.no_grad():
        states = text_encoder(tokens)[0]
        noise = unet(latents, torch.tensor([500, 20]), states.to(dtype)).sample
    return noise, states


def from_diffusers(folder, files, scales, **options):
    """Return the outputs of diffusers' pipeline with unmerged adapters."""
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, dtype=torch.float64)
    names = [f"adapter{i}" for i in range(len(files))]
    for file, name in zip(files, names, strict=True):
        pipeline.load_lora_weights(dict(file), adapter_name=name, **options)
    pipeline.set_adapters(names, adapter_weights=scales)
    return outputs(pipeline.unet, pipeline.text_encoder)


def assert_equal(ours, theirs, atol=1e-6):
    for got, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, expected, atol=atol, rtol=0)


def assert_changed(before, after):
    for old, new in zip(before, after, strict=True):
        assert (old - new).abs().max() > 0.05, "the LoRA has no effect, so the test is void"


NAMINGS = [in_diffusers_naming, in_former_diffusers_naming, in_processor_naming, in_kohya_naming]


@pytest.mark.parametrize("naming", NAMINGS)
def test_fused_models_equal_diffusers_pipeline_with_the_same_lora(naming, folder, models):
    before, file = outputs(*models), naming(pairs(models))
    lora.check({name: tuple(t.shape) for name, t in file.items()}, **CONFIGS, where="a.safetensors")
    lora.fuse(*models, [(file, 0.7)], ["a.safetensors"])
    assert_equal(outputs(*models), from_diffusers(folder, [file], [0.7]))
    assert_changed(before, outputs(*models))


@pytest.mark.parametrize("naming", [in_peft_naming, in_bare_peft_naming])
def test_peft_naming_equals_diffusers_naming(naming, folder, models):
    made = pairs(models)
    lora.fuse(*models, [(naming(made), 1.0)], ["a"])
    assert_equal(outputs(*models), from_diffusers(folder, [in_diffusers_naming(made)], [1.0]))


def test_several_loras_of_other_namings_ranks_and_scales_add_up(folder, models):
    first, second = pairs(models, seed=1), pairs(models, seed=2, rank=2)
    files = [in_diffusers_naming(first), in_kohya_naming(second)]
    lora.fuse(*models, list(zip(files, [0.5, -0.8], strict=True)), ["a", "b"])
    assert_equal(outputs(*models), from_diffusers(folder, files, [0.5, -0.8]))


def test_convolutions(folder, models):
    file, before = in_kohya_naming(pairs(models, convolutions=True)), outputs(*models)
    assert any(name.endswith("conv_in.lora_down.weight") for name in file)
    lora.fuse(*models, [(file, 0.5)], ["a"])
    assert_equal(outputs(*models), from_diffusers(folder, [file], [0.5]))
    assert_changed(before, outputs(*models))


def test_alpha_is_honoured(folder, models):
    made = pairs(models)
    file = in_kohya_naming(made, alpha=1)
    lora.fuse(*models, [(file, 1.0)], ["a"])
    ours = outputs(*models)
    assert_equal(ours, from_diffusers(folder, [file], [1.0]))
    assert_equal(ours, from_diffusers(folder, [in_kohya_naming(made)], [1 / 4]))


def test_each_layer_has_its_own_rank_and_alpha(models):
    made = pairs(models) | {key: pair for i, (key, pair) in enumerate(pairs(models, rank=2).items()) if i % 2}
    file = in_kohya_naming(made)
    factors = {}
    for i, (key, (down, _)) in enumerate(made.items()):
        stem = [name for name in file if name.endswith(".alpha")][i]
        file[stem] = torch.tensor(float(1 + i % 3))
        factors[key] = float(1 + i % 3) / len(down)
    parts = dict(zip(("unet", "text_encoder"), copy.deepcopy(models), strict=True))
    for (prefix, name), (down, up) in made.items():
        parts[prefix].get_submodule(name).weight.data += 0.9 * factors[prefix, name] * up @ down
    lora.fuse(*models, [(file, 0.9)], ["a"])
    assert_equal(outputs(*models), outputs(*parts.values()))


def test_alpha_from_the_settings_beside_the_tensors(tmp_path, folder, models):
    file = in_diffusers_naming(pairs(models))
    settings = {"unet.r": 4, "unet.lora_alpha": 2, "unet.alpha_pattern": {r"attn2.to_k": 1},
                "text_encoder.r": 4, "text_encoder.lora_alpha": 8}  # fmt: skip
    path = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(file, path, metadata={"format": "pt", "lora_adapter_metadata": json.dumps(settings)})
    lora.fuse(*models, [(file, 1.0)], ["a"], adapter_configs=[lora.adapter_config(path, None)])
    pipeline = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True, dtype=torch.float64)
    targets = {prefix: [n for p, n, _ in layers(models) if p == prefix] for prefix in ("unet", "text_encoder")}
    for prefix, names in targets.items():
        settings[f"{prefix}.target_modules"] = names
    save_file(file, path, metadata={"format": "pt", "lora_adapter_metadata": json.dumps(settings)})
    pipeline.load_lora_weights(tmp_path, weight_name=path.name)
    assert_equal(outputs(*models), outputs(pipeline.unet, pipeline.text_encoder))


def test_settings_of_a_peft_folder(tmp_path):
    path, peft_config = tmp_path / "adapter_model.safetensors", tmp_path / "adapter_config.json"
    save_file({"x": torch.zeros(1)}, path)
    assert lora.adapter_config(path, None) is None
    peft_config.write_text(json.dumps({"peft_type": "LORA", "r": 4, "lora_alpha": 8}))
    assert lora.adapter_config(path, peft_config)["lora_alpha"] == 8
    peft_config.write_text(json.dumps({"peft_type": "LORA", "use_dora": True}))
    with pytest.raises(UserError, match=r"adapter_config\.json: use_dora is True, which is not supported"):
        lora.adapter_config(path, peft_config)
    peft_config.write_text("{")
    with pytest.raises(UserError, match=r"adapter_config\.json: the LoRA settings are not JSON"):
        lora.adapter_config(path, peft_config)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_rounds_once(dtype, models):
    files = [(in_kohya_naming(pairs(models, seed=seed)), 0.5) for seed in (1, 2)]
    halves = [copy.deepcopy(model).to(dtype) for model in models]
    exact = [copy.deepcopy(model).float() for model in halves]
    lora.fuse(*exact, files, ["a", "b"])
    torch.set_default_dtype(dtype)
    try:
        lora.fuse(*halves, files, ["a", "b"])
    finally:
        torch.set_default_dtype(torch.float32)
    for half, full in zip(halves, exact, strict=True):
        assert half.dtype == dtype
        for got, expected in zip(half.parameters(), full.parameters(), strict=True):
            torch.testing.assert_close(got, expected.to(dtype), rtol=0, atol=0)


def test_plain_layers_remain_and_conditioning_can_be_precomputed(models):
    unet, text_encoder = models
    kinds = [type(module) for model in models for module in model.modules()]
    state = torch.get_rng_state()
    lora.fuse(unet, text_encoder, [(in_kohya_naming(pairs(models, convolutions=True)), 1.0)], ["a"])
    assert torch.equal(state, torch.get_rng_state())
    assert kinds == [type(module) for model in models for module in model.modules()]
    for model in models:
        assert not getattr(model, "peft_config", None)
        assert not model._hf_peft_config_loaded
        assert not any("lora" in name or "base_layer" in name for name in model.state_dict())
    latents, states = torch.randn(2, 4, 8, 8).double(), torch.randn(2, 77, 16).double()
    timestep = torch.tensor([500, 20])
    with torch.no_grad():
        expected = unet(latents, timestep, states).sample
        cached = CachedConditioningUNet(unet)
        got = cached(latents, timestep, cached.keys_and_values(states))
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-6)


def test_convolutions_of_one_pixel_stored_as_matrices(models):
    made = {key: pair for key, pair in pairs(models, convolutions=True).items() if key[1].endswith("proj_in")}
    flat = {key: (down.flatten(1), up.flatten(1)) for key, (down, up) in made.items()}
    other = copy.deepcopy(models)
    lora.fuse(*models, [(in_kohya_naming(made), 1.0)], ["a"])
    lora.fuse(*other, [(in_kohya_naming(flat), 1.0)], ["a"])
    assert made
    assert_equal(outputs(*models), outputs(*other), atol=0)


def assert_refused(models, file, message):
    before = [copy.deepcopy(model.state_dict()) for model in models]
    with pytest.raises(UserError, match=message):
        lora.fuse(*models, [(in_kohya_naming(pairs(models, seed=1)), 1.0), (file, 1.0)], ["b.st", "a.st"])
    for model, old in zip(models, before, strict=True):
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(tensor, old[name], rtol=0, atol=0)


def test_tensors_that_match_no_layer_are_refused(models):
    file = in_kohya_naming(pairs(models))
    down, up = torch.zeros(4, 16), torch.zeros(16, 4)
    file |= {"lora_unet_down_blocks_7_to_q.lora_down.weight": down, "lora_unet_down_blocks_7_to_q.lora_up.weight": up}
    assert_refused(models, file, r"^a\.st: 2 tensors match no layer of this model: lora_unet_down_blocks_7_to_q")


def test_tensors_of_another_shape_are_refused(models):
    file = in_kohya_naming(pairs(models))
    name = next(name for name in file if name.endswith("lora_up.weight"))
    file[name] = torch.zeros(24, 4)
    assert_refused(models, file, r"^a\.st: lora_unet_.* has shape .* expected .* for the layer ")


def test_values_that_are_not_finite_are_refused(models):
    file = in_kohya_naming(pairs(models))
    next(iter(file.values()))[0] = float("nan")
    assert_refused(models, file, r"^a\.st: the tensors of lora_unet_.* have values that are not finite; get")


UNET = "down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
TEXT = "text_model_encoder_layers_0_self_attn_q_proj"


def kohya(stem, width):
    return {f"{stem}.lora_down.weight": (4, width), f"{stem}.lora_up.weight": (16, 4), f"{stem}.alpha": ()}


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (kohya(f"lora_unet_{UNET}", 2048), r"for Stable Diffusion XL \(cross-attention width 2048\); expected .* 16;"),
        (kohya(f"lora_unet_{UNET}", 16) | kohya(f"lora_te1_{TEXT}", 16), r"for Stable Diffusion XL .* has lora_te1_"),
        (kohya(f"lora_te2_{TEXT}", 16), r"for Stable Diffusion XL, since it has lora_te2_"),
        ({"text_encoder_2.x.lora_A.weight": (4, 16)}, r"for Stable Diffusion XL, .*text_encoder_2"),
        (kohya(f"lora_unet_{UNET}", 1024), r"for Stable Diffusion v2 \(cross-attention width 1024\)"),
        (kohya(f"lora_unet_{UNET}", 640), r"for another model \(cross-attention width 640\)"),
        ({"unet.a.attn2.processor.to_k_lora.down.weight": (4, 1024)}, r"for Stable Diffusion v2"),
        ({"unet.a.attn2.to_v.lora_A.weight": (4, 1024)}, r"for Stable Diffusion v2"),
        (kohya(f"lora_te_{TEXT}", 1024), r"text encoder of width 1024 \(lora_te_.*, expected width 16"),
        ({"transformer.single_transformer_blocks.0.x.lora_A.weight": (4, 3072)}, r"Flux or another transformer"),
        (kohya("lora_unet_double_blocks_0_img_attn_qkv", 3072), r"for Flux or another transformer"),
        ({}, r"has no LoRA tensors; expected lora_down/lora_up or lora_A/lora_B, got an empty file"),
        ({"conv_in.weight": (16, 4, 3, 3)}, r"has no LoRA tensors; .* got conv_in\.weight"),
        ({"lora_unet_x.hada_w1_a": (4, 16)}, r"is a LoHa .* not supported; expected a plain LoRA"),
        (kohya("lora_unet_x", 16) | {"lora_unet_x.dora_scale": (16, 1)}, r"is a DoRA"),
        (kohya(f"lora_unet_{UNET}", 16) | {"emb_params": (1, 16)}, r"1 tensors .* not part of a LoRA: emb_params"),
        ({f"lora_unet_{UNET}.lora_down.weight": (4, 16)}, r"is incomplete: layer .* has no up tensor"),
    ],
)  # fmt: skip
def test_files_for_other_models_are_refused_by_name_and_shape(shapes, message):
    with pytest.raises(UserError, match=rf"a\.safetensors .*{message}|a\.safetensors {message}"):
        lora.check(shapes, **CONFIGS, where="a.safetensors")
