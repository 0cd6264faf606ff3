import json
import shutil
import warnings

import pytest
import torch

from its import GuidedExpert
from its.errors import UserError
from its.weights import WeightsNotFound
from its_plugins.experts.deepfloyd_if import DeepFloydIF
from its_plugins.experts.deepfloyd_if_upscaler import DeepFloydIFUpscaler
from its_plugins.random_weights import deepfloyd_if as random_weights_if
from its_plugins.schedulers.ddim import DDIM

PROMPTS = ["A painting of castle towers ", "bell ringing"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return random_weights_if.deepfloyd_if(tmp_path_factory.mktemp("deepfloyd-if"))


@pytest.fixture(scope="module")
def expert(folder):
    expert = DeepFloydIF(weights=str(folder), variant=None)
    expert.prepare()
    expert.load()
    return expert


@pytest.fixture(scope="module")
def pipeline(folder):
    from diffusers import DDPMScheduler, IFPipeline, UNet2DConditionModel
    from transformers import T5EncoderModel, T5Tokenizer

    pipe = IFPipeline(
        tokenizer=T5Tokenizer.from_pretrained(folder / "tokenizer"),
        text_encoder=T5EncoderModel.from_pretrained(folder / "text_encoder"),
        unet=UNet2DConditionModel.from_pretrained(folder / "unet"),
        scheduler=DDPMScheduler.from_pretrained(folder / "scheduler"),
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def test_text_equals_diffusers(expert, pipeline):
    theirs, null = pipeline.encode_prompt(PROMPTS)
    assert theirs.shape == (2, 77, 16)
    torch.testing.assert_close(expert.encode_text(PROMPTS), theirs)
    torch.testing.assert_close(expert.encode_text([""]), null[:1])


def test_padding_is_masked_in_t5(expert):
    """The state of a word must not depend on the padding after it."""
    tokens = expert.tokenizer(["bell"], return_tensors="pt").input_ids
    alone = expert.text_encoder(tokens)[0]
    torch.testing.assert_close(expert.encode_text(["bell"])[:, : tokens.shape[1]], alone)


def test_a_step_without_learned_variance_equals_diffusers_pipeline(expert, pipeline):
    """Deterministic sampling with `its` components gives the same as IFPipeline."""
    from diffusers import DDIMScheduler

    kept, schedule = pipeline.scheduler, {"beta_schedule": "squaredcos_cap_v2", "clip_sample": False}
    pipeline.scheduler = DDIMScheduler(**schedule, set_alpha_to_one=False, steps_offset=1)
    pipeline.scheduler.register_to_config(variance_type="fixed_small")  # makes the pipeline drop the learned variance
    try:
        generator = torch.Generator().manual_seed(0)
        theirs = pipeline(PROMPTS, height=16, width=32, generator=generator, num_inference_steps=5, output_type="pt")
    finally:
        pipeline.scheduler = kept
    z = torch.randn(2, 3, 16, 32, generator=torch.Generator().manual_seed(0))
    ours = DDIM(beta_schedule="squaredcos_cap_v2").plan(5)
    guided = GuidedExpert(
        expert, text=expert.encode_text(PROMPTS), null_text=expert.encode_text(["", ""]), scales=[7.0, 7.0]
    )
    for index, t in enumerate(ours.timesteps):
        z = ours.step(guided(z, t.expand(2)), index, z)
    scale = theirs.images.abs().max()
    torch.testing.assert_close(z / scale, theirs.images / scale, atol=1e-4, rtol=0)


def test_learned_variance_is_dropped_from_the_noise(expert):
    z, t, text = torch.randn(1, 3, 16, 16), torch.tensor([400]), expert.encode_text(["bell"])
    whole = expert.predict(z, t, text)
    assert whole.shape == (1, 6, 16, 16)
    torch.testing.assert_close(expert.predict_noise(z, t, text), whole[:, :3])


def test_pixels_are_their_own_latents(expert):
    codec = expert.codec()
    assert codec.latent_shape((64, 256)) == (3, 64, 256)
    assert expert.latent_space == "pixels"
    assert expert.multiple == 8


def test_sampler_is_the_folder_s(expert):
    config = expert.sampler().config
    assert config.beta_schedule == "squaredcos_cap_v2"
    assert config.variance_type == "learned_range"
    assert config.thresholding


def test_sampler_and_multiple_need_find():
    """An empty configuration would give diffusers' defaults, which are another noise schedule."""
    for read in (lambda part: part.sampler(), lambda part: part.multiple):
        for part in (DeepFloydIF(), DeepFloydIFUpscaler()):
            with pytest.raises(RuntimeError, match=r"call find\(\)"):
                read(part)


@pytest.mark.parametrize(("cls", "channels"), [(DeepFloydIF, 6), (DeepFloydIF, 4), (DeepFloydIFUpscaler, 3)])
def test_a_unet_of_another_kind_is_refused_before_anything_is_read(folder, tmp_path, cls, channels):
    random_weights_if.deepfloyd_if_upscaler(tmp_path)
    for name in ("text_encoder", "tokenizer"):
        (tmp_path / name).symlink_to(folder / name)
    path = tmp_path / "unet" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"in_channels": channels}))
    expected = {DeepFloydIF: 3, DeepFloydIFUpscaler: 6}[cls]
    with pytest.raises(UserError, match=f"unet: in_channels is {channels}, expected {expected}"):
        cls(weights=str(tmp_path), variant=None).find()


def test_variant_and_hub_defaults(tmp_path):
    folder = random_weights_if.deepfloyd_if(tmp_path, variant="fp16")
    expert = DeepFloydIF(weights=str(folder))
    expert.prepare()
    expert.load()
    assert DeepFloydIF().weights == "DeepFloyd/IF-I-M-v1.0"
    assert "sha256" in expert.provenance()


def test_a_missing_component_is_named(tmp_path):
    folder = random_weights_if.deepfloyd_if(tmp_path)
    (folder / "scheduler" / "scheduler_config.json").unlink()
    with pytest.raises(WeightsNotFound, match="lacks scheduler/scheduler_config.json"):
        DeepFloydIF(weights=str(folder), variant=None).prepare()
    with pytest.raises(WeightsNotFound, match=r"no fp16 weights in unet .*fp16\.safetensors.*Set variant to null"):
        DeepFloydIF(weights=str(folder)).prepare()


def test_a_tokenizer_that_can_not_be_read_is_one_message(tmp_path):
    folder = random_weights_if.deepfloyd_if(tmp_path)
    (folder / "tokenizer" / "tokenizer.json").write_text("{")
    expert = DeepFloydIF(weights=str(folder), variant=None)
    expert.prepare()
    with pytest.raises(UserError, match="tokenizer can't be read"):
        expert.load()


def test_a_tokenizer_that_needs_a_missing_library_says_so(tmp_path, monkeypatch):
    folder = random_weights_if.deepfloyd_if(tmp_path)
    (folder / "tokenizer" / "tokenizer.json").rename(folder / "tokenizer" / "spiece.model")  # as on the hub
    monkeypatch.setattr("its.weights.models.find_spec", lambda name: None)
    expert = DeepFloydIF(weights=str(folder), variant=None)
    expert.prepare()
    with pytest.raises(UserError, match="spiece.model needs the library sentencepiece: pip install sentencepiece"):
        expert.load()


def test_a_long_prompt_is_cut_with_one_warning(expert):
    prompt = "bell " * 90
    with pytest.warns(UserWarning, match="has 91 tokens, but .* supports only 77. The end is ignored"):
        text = expert.encode_text([prompt])
    assert text.shape[1] == 77
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        expert.encode_text([prompt])


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}, "v_prediction, expected epsilon"),
        ("text_encoder/config.json", {"model_type": "clip_text_model"}, "clip_text_model, expected t5"),
        (
            "unet/config.json",
            {"quantization_config": {"load_in_8bit": True}},
            "config.json has quantized weights",
        ),
    ],
)
def test_models_of_another_kind_are_refused_before_they_are_read(tmp_path, file, change, message):
    import json

    from its.errors import UserError
    from its_plugins.random_weights.deepfloyd_if import deepfloyd_if

    path = deepfloyd_if(tmp_path / "if") / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=message):
        DeepFloydIF(weights=str(tmp_path / "if"), variant=None).find()


def test_texts_of_another_width_than_the_unet_reads_are_refused(folder, tmp_path):
    copied = shutil.copytree(folder, tmp_path / "weights")
    path = copied / "text_encoder" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"d_model": 24}))
    with pytest.raises(UserError, match="text_encoder has width 24, but the UNet expects 16"):
        DeepFloydIF(weights=str(copied), variant=None).find()
