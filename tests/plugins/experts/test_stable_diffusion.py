import json
import shutil
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from weight_files import Code, save_pickle, save_tensors

from its import Combiner, GuidedExpert, denoise
from its.errors import UserError
from its.weights import WeightsNotFound
from its.weights.files import tensors_of
from its.weights.model_files import DIFFUSERS, TRANSFORMERS
from its_plugins.codecs.autoencoder_kl import AutoencoderKLCodec
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.random_weights import stable_diffusion as random_weights
from its_plugins.schedulers.ddim import DDIM

PROMPTS = ["a painting of castle towers, grayscale", "bell ringing"]
NEGATIVE = ["", "dog barking"]


class Alone(Combiner):
    """Combiner of one expert."""

    def weights(self, progress):
        return {"visual": 1.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_weights.stable_diffusion(tmp_path_factory.mktemp("stable-diffusion"))


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "weights")


def loaded(part):
    part.prepare()
    part.load()
    return part


def estimate(expert, prompt="bell"):
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(1, 4, 8, 16, generator=generator)
    return expert.predict_noise(latents, torch.tensor([500]), expert.encode_text([prompt]))


@pytest.fixture(scope="module")
def expert(folder):
    return loaded(StableDiffusion(weights=str(folder)))


@pytest.fixture(scope="module")
def pipeline(folder):
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_one_guided_expert_alone_equals_diffusers_pipeline(expert, pipeline):
    noise = torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(0))
    arguments = {"prompt": PROMPTS, "negative_prompt": NEGATIVE, "guidance_scale": 7.5, "num_inference_steps": 20}
    theirs = pipeline(**arguments, latents=noise, height=64, width=128, output_type="latent").images
    picture = pipeline(**arguments, latents=noise, height=64, width=128, output_type="pt").images

    def ours(scale):
        text, null = expert.encode_text(PROMPTS), expert.encode_text(NEGATIVE)
        guided = GuidedExpert(expert, text=text, null_text=null, scales=[scale] * 2)
        return denoise(noise, experts={"visual": guided}, combiner=Alone(), scheduler=DDIM(), steps=20)

    latents = ours(7.5)
    spread = theirs.std()  # about 12, since random weights remove no noise
    torch.testing.assert_close(latents / spread, theirs / spread, atol=1e-5, rtol=0)
    assert (latents - ours(1)).abs().max() > spread / 10, "guidance has no effect, so the test is void"
    torch.testing.assert_close(loaded(expert.codec()).decode(latents), picture, atol=1e-5, rtol=1e-5)


def test_text_is_padded_and_not_masked(expert, pipeline):
    states, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, do_classifier_free_guidance=False)
    layers = [module for name, module in pipeline.unet.named_modules() if name.endswith("attn2")]
    theirs = [projected for layer in layers for projected in (layer.to_k(states), layer.to_v(states))]
    text = expert.encode_text(PROMPTS)
    assert text.shape == (2, 77, 2 * (16 + 16 + 16 + 32))  # three blocks of width 16, one of width 32
    torch.testing.assert_close(text, torch.cat(theirs, -1))


@pytest.mark.parametrize("timesteps", [[999, 0], [1, 500]])
def test_precomputed_conditioning_equals_the_unets(expert, pipeline, timesteps):
    latents, t = torch.randn(2, 4, 8, 16, generator=torch.Generator().manual_seed(4)), torch.tensor(timesteps)
    states, _ = pipeline.encode_prompt(PROMPTS, "cpu", 1, do_classifier_free_guidance=False)
    theirs = pipeline.unet(latents, t, states).sample
    torch.testing.assert_close(expert.predict_noise(latents, t, expert.encode_text(PROMPTS)), theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("unet", ["unet", "unet_audio"])
def test_unet_folder_and_variant(unet, tmp_path, capsys):
    random_weights.stable_diffusion(tmp_path, unets=["unet", "unet_audio"], variant="fp16")
    expert = loaded(StableDiffusion(weights=str(tmp_path), variant="fp16", unet_folder=unet))
    file = load_file(tmp_path / unet / "diffusion_pytorch_model.fp16.safetensors")
    torch.testing.assert_close(expert.unet.unet.conv_in.weight, file["conv_in.weight"])
    assert loaded(expert.codec()).variant == "fp16"
    assert capsys.readouterr().err == ""
    fallback = StableDiffusion(weights=str(tmp_path), unet_folder=unet)  # fp16 is the only variant
    for _ in range(2):
        fallback.find()
    lines = [line for line in capsys.readouterr().err.splitlines() if str(tmp_path) in line]
    assert len(lines) == 1
    assert "fp16" in lines[0]
    assert fallback.provenance() == expert.provenance()
    with pytest.raises(WeightsNotFound, match=rf"no bf16 weights in {unet} .*Set variant to fp16"):
        StableDiffusion(weights=str(tmp_path), unet_folder=unet, variant="bf16").find()


@pytest.mark.parametrize("variant", [None, "fp16"])
def test_sharded_weights_equal_whole_ones(folder, tmp_path, variant):
    random_weights.stable_diffusion(tmp_path, variant=variant, max_shard_size="200KB")
    assert len(list((tmp_path / "unet").glob("*-of-*.safetensors"))) > 1
    sharded = loaded(StableDiffusion(weights=str(tmp_path), variant=variant))
    torch.testing.assert_close(estimate(sharded), estimate(loaded(StableDiffusion(weights=str(folder)))))


@pytest.fixture
def pickled(copied):
    """Convert the weights to `.bin` files, as in older repositories; return the files by component."""
    names = {"unet": "diffusion_pytorch_model.bin", "vae": "diffusion_pytorch_model.bin"}
    files = {part: copied / part / names.get(part, "pytorch_model.bin") for part in ("unet", "text_encoder", "vae")}
    for file in files.values():
        (safe,) = file.parent.glob("*.safetensors")
        save_tensors(file, load_file(safe))
        safe.unlink()
    return files


def copies(file):
    """Copy a file's tensors, which `tensors_of` memory-maps, so that the file can be overwritten."""
    return {name: tensor.clone() for name, tensor in tensors_of(file).items()}


@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_pickled_state_dicts_equal_safetensors(pickled, expert, form):
    for file in pickled.values():
        save_tensors(file, copies(file), form=form)
    other = loaded(StableDiffusion(weights=str(pickled["unet"].parents[1])))
    assert torch.equal(estimate(other), estimate(expert))
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(loaded(other.codec()).decode(latents), loaded(expert.codec()).decode(latents))


@pytest.mark.parametrize("form", ["zip", "legacy"])
@pytest.mark.parametrize("component", ["unet", "text_encoder", "vae"])
def test_a_pickle_that_carries_code_is_refused_and_not_run(pickled, tmp_path, component, form):
    file, trace = pickled[component], tmp_path / "was run"
    save_pickle({**copies(file), "x": Code(trace)}, file, form)
    expert = StableDiffusion(weights=str(file.parents[1]))
    with pytest.raises(UserError, match=rf"{component}/.*\.bin is damaged, or contains other objects than tensors"):
        loaded(expert.codec() if component == "vae" else expert)
    assert not trace.exists()


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_mixed_precisions_in_one_file_become_that_of_the_run(copied, ending):
    """Merged checkpoints have mixed precisions."""
    for part, naming in (("unet", DIFFUSERS), ("text_encoder", TRANSFORMERS), ("vae", DIFFUSERS)):
        (file,) = (copied / part).glob("*.safetensors")
        mixed = {
            name: tensor.to((torch.float16, torch.float32, torch.bfloat16)[number % 3])
            for number, (name, tensor) in enumerate(load_file(file).items())
        }
        file.unlink()
        stem = naming.pickle if ending == "bin" else naming.safetensors
        save_tensors(copied / part / f"{stem}.{ending}", mixed)
    default = torch.get_default_dtype()
    for dtype in (torch.float32, torch.bfloat16):
        try:
            torch.set_default_dtype(dtype)
            expert = loaded(StableDiffusion(weights=str(copied)))
            codec = loaded(expert.codec())
        finally:
            torch.set_default_dtype(default)
        assert {p.dtype for part in (expert, codec) for p in part.parameters()} == {dtype}
        assert estimate(expert).isfinite().all()


def test_incomplete_weights_are_an_error(copied):
    file = copied / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    del tensors["conv_in.weight"]
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"unet.*lacks 1 tensors, for example conv_in\.weight"):
        loaded(StableDiffusion(weights=str(copied)))


def test_names_of_older_files_are_understood(copied, expert):
    # Stable Diffusion v1.5's files have a prefix that transformers 5 dropped, and former names of the VAE's attention.
    file = copied / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{name}": tensor for name, tensor in load_file(file).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    save_file(tensors, file, metadata={"format": "pt"})
    torch.testing.assert_close(estimate(loaded(StableDiffusion(weights=str(copied)))), estimate(expert))

    file = copied / "vae" / "diffusion_pytorch_model.safetensors"
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(file)
    for name in [name for name in tensors if ".attentions." in name]:
        for new, former in old.items():
            if new in name:
                tensors[name.replace(new, former)] = tensors.pop(name)
    assert any("proj_attn" in name for name in tensors)
    save_file(tensors, file, metadata={"format": "pt"})
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    decoded = loaded(AutoencoderKLCodec(weights=str(copied))).decode(latents)
    torch.testing.assert_close(decoded, loaded(expert.codec()).decode(latents))


def test_weights_follow_the_dtype_and_device_of_lightning(folder):
    # Lightning sets default dtype and device around load; "meta" represents a device other than the CPU.
    expert = StableDiffusion(weights=str(folder))
    expert.prepare()
    default = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("meta"):
            expert.load()
    finally:
        torch.set_default_dtype(default)
    assert {(p.dtype, p.device.type) for p in expert.parameters()} == {(torch.bfloat16, "meta")}
    assert not any(p.requires_grad for p in expert.parameters())
    assert not any(module.training for module in expert.unet.modules())


def test_a_long_prompt_is_cut_with_one_warning(expert):
    prompt = " ".join(["castle"] * 75 + ["bell"] * 5)
    with pytest.warns(UserWarning, match="has 82 tokens, .* supports only 77.* ignored: 'bell bell bell bell bell'"):
        text = expert.encode_text([prompt])
    assert text.shape[:2] == (1, 77)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expert.encode_text([prompt])
        expert.encode_text([" ".join(["castle"] * 75)])  # fits exactly


def test_a_prompt_of_unknown_words_gives_one_warning(copied):
    (copied / "unet" / "known_words.json").write_text(json.dumps(["castle", "bell"]))
    expert = loaded(StableDiffusion(weights=str(copied)))
    with pytest.warns(UserWarning, match=r"was not trained on any word of the prompt 'a Frog croaking'.* castle, bell"):
        expert.encode_text(["a Frog croaking"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expert.encode_text(["a Frog croaking", "", "a Castle, grayscale"])


def test_canvas_that_latents_cannot_cover(folder):
    codec = AutoencoderKLCodec(weights=str(folder))
    with pytest.raises(RuntimeError, match=r"call find\(\) or prepare\(\) first"):
        codec.latent_shape((64, 64))
    codec.prepare()
    assert codec.latent_shape((256, 1024)) == (4, 32, 128)
    with pytest.raises(ValueError, match=r"canvas \[256, 1020\]: rows and columns must be multiples of 8"):
        codec.latent_shape((256, 1020))


def test_encoding_is_the_scaled_mean_of_the_posterior(folder, pipeline):
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        posterior = pipeline.vae.encode(pipeline.image_processor.preprocess(picture)).latent_dist
    latents = loaded(AutoencoderKLCodec(weights=str(folder))).encode(picture)
    torch.testing.assert_close(latents, posterior.mode() * 0.18215)


def test_provenance_covers_the_files_that_are_read(copied):
    expert = StableDiffusion(weights=str(copied))
    expert.prepare()
    record = expert.provenance()
    assert record["name"] == str(copied)
    other = StableDiffusion(weights=str(random_weights.stable_diffusion(copied.parent / "other", seed=1)))
    other.prepare()
    assert record["sha256"] != other.provenance()["sha256"]
    assert expert.files[-4:] == (
        "tokenizer/tokenizer_config.json",
        "tokenizer/merges.txt",
        "tokenizer/special_tokens_map.json",
        "tokenizer/vocab.json",
    )
    assert not any(name.startswith(("vae", "scheduler")) for name in expert.files)


def test_channels_last_differs_by_rounding_alone(folder):
    plain, other = (loaded(StableDiffusion(weights=str(folder), channels_last=on)) for on in (False, True))
    assert other.unet.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert other.codec().channels_last
    z, t, text = torch.randn(2, 4, 8, 16), torch.tensor([500, 500]), plain.encode_text(["castle", "bell"])
    torch.testing.assert_close(plain.predict_noise(z, t, text), other.predict_noise(z, t, text), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("unet/config.json", {"cross_attention_dim": [16, 16]}),
        ("scheduler/scheduler_config.json", {"beta_start": "0.00085"}),
        ("vae/config.json", {"scaling_factor": "large"}),
        ("unet/config.json", {"quantization_config": {"load_in_8bit": True}}),
    ],
)
def test_invalid_values_in_a_configuration_give_one_message(copied, file, change):
    path = copied / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    expert = StableDiffusion(weights=str(copied))
    with pytest.raises(UserError, match=str(copied)):
        expert.find()


def test_a_vocabulary_without_merges_is_missing_and_a_damaged_one_named(copied):
    (copied / "tokenizer" / "merges.txt").rename(copied / "kept")
    with pytest.raises(WeightsNotFound, match=r"lacks tokenizer/merges\.txt"):
        StableDiffusion(weights=str(copied)).find()
    (copied / "kept").rename(copied / "tokenizer" / "merges.txt")
    (copied / "tokenizer" / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(UserError, match=r"tokenizer can't be read"):
        loaded(StableDiffusion(weights=str(copied)))


def test_deepfloyd_if_is_refused(tmp_path):
    from its_plugins.random_weights.deepfloyd_if import deepfloyd_if

    with pytest.raises(UserError, match="3 input channels|additional embeddings"):
        StableDiffusion(weights=str(deepfloyd_if(tmp_path / "if"))).find()
