"""Control nets, compared with diffusers' pipelines on tiny weights."""

import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, StableDiffusionControlNetPipeline, UNet2DConditionModel
from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

from its.diffusion.guidance import GuidedExpert
from its.diffusion.sampling import denoise
from its.diffusion.windows import Windows
from its.errors import UserError
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.experts.control_net import ControlNet
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.experts.view import View
from its_plugins.random_weights.stable_diffusion import SCHEDULER, control_net
from its_plugins.schedulers.ddim import DDIM

PROMPT, NEGATIVE = "a painting of castle towers", "dog"


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("nets")
    return [control_net(folder / "one", seed=5), control_net(folder / "two", seed=6)]


def pictures(count, size=(64, 128)):
    return torch.rand(1, count, 3, *size, generator=torch.manual_seed(9))


def expert(tiny, weights, **options):
    controlled = ControlNet(expert=StableDiffusion(weights=str(tiny / "sd")), weights=weights, **options)
    controlled.prepare()
    controlled.load()
    return controlled


@torch.inference_mode()
def sample(controlled, noise, scales, *, steps=6, control=None, guidance=7.5):
    control = pictures(len(scales)) if control is None else control
    text, null = (controlled.encode_text([prompt]) for prompt in (PROMPT, NEGATIVE))
    text, null = (controlled.add_control(each, control, torch.tensor([scales])) for each in (text, null))
    return denoise(
        noise,
        experts={"visual": GuidedExpert(controlled, text=text, null_text=null, scales=[guidance])},
        combiner=WarmStartAverage(t={"visual": 1.0}),
        scheduler=DDIM(),
        steps=steps,
    )


@torch.inference_mode()
def pipeline(tiny, nets, noise, scales, *, steps=6, guidance=7.5):
    models = [ControlNetModel.from_pretrained(net) for net in nets]
    pipe = StableDiffusionControlNetPipeline.from_pretrained(
        tiny / "sd",
        controlnet=models[0] if len(models) == 1 else MultiControlNetModel(models),
        scheduler=DDIMScheduler(**{key: value for key, value in SCHEDULER.items() if key != "_class_name"}),
    )
    pipe.set_progress_bar_config(disable=True)
    control = list(pictures(len(nets)).unbind(1))
    one = len(models) == 1
    return pipe(
        PROMPT,
        image=control[0] if one else control,
        negative_prompt=NEGATIVE,
        controlnet_conditioning_scale=scales[0] if one else scales,
        num_inference_steps=steps,
        guidance_scale=guidance,
        latents=noise,
        output_type="latent",
        height=64,
        width=128,
    ).images


@pytest.fixture
def noise():
    return torch.randn(1, 4, 8, 16, generator=torch.manual_seed(3))


@pytest.mark.parametrize("scales", [[1.0], [0.4], [0.8, 0.5]])
def test_equals_the_pipeline_of_diffusers(tiny, nets, noise, scales):
    used = nets[: len(scales)]
    ours = sample(expert(tiny, [str(net) for net in used]), noise, scales)
    theirs = pipeline(tiny, used, noise, scales)
    uncontrolled = sample(expert(tiny, [str(net) for net in used]), noise, [0.0] * len(scales))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * float(theirs.std()))
    assert (ours - uncontrolled).std() > 0.05 * ours.std()


def test_without_pictures_it_is_the_wrapped_expert_and_scale_0_too(tiny, nets, noise):
    controlled = expert(tiny, str(nets[0]))
    text, timestep = controlled.encode_text([PROMPT]), torch.tensor([500])
    plain = controlled.expert.predict_noise(noise, timestep, controlled.expert.encode_text([PROMPT]))
    torch.testing.assert_close(controlled.predict_noise(noise, timestep, text), plain)
    off = controlled.add_control(text, pictures(1), torch.tensor([[0.0]]))
    torch.testing.assert_close(controlled.predict_noise(noise, timestep, off), plain)


def test_windows_see_their_part_of_the_picture(tiny, nets):
    controlled = expert(tiny, str(nets[0]))
    windows = Windows(expert=controlled, width=64, stride=32)
    control, scales = pictures(1, (64, 128)), torch.tensor([[1.0]])
    z, t = torch.randn(1, 4, 8, 16, generator=torch.manual_seed(4)), torch.tensor([300])
    ours = windows.predict_noise(z, t, windows.add_control(windows.encode_text([PROMPT]), control, scales))
    layout, parts = windows.layout(16), []
    for start in layout.starts:
        text = controlled.encode_text([PROMPT])
        text = controlled.add_control(text, control[..., start * 8 : start * 8 + 64], scales)
        parts.append(controlled.predict_noise(z[..., start : start + 8], t, text))
    assert len(parts) == 3
    torch.testing.assert_close(ours, layout.merge(torch.stack(parts, 1)), rtol=0, atol=1e-5)


def test_the_provenance_names_both(tiny, nets):
    record = expert(tiny, [str(net) for net in nets]).provenance()
    assert len({entry["sha256"] for entry in record["control"]} | {record["sha256"]}) == 3


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ({"cross_attention_dim": 32}, "cross_attention_dim is 32"),
        ({"block_out_channels": (16, 64)}, "block_out_channels"),
        ({"layers_per_block": 2}, "layers_per_block is 2"),
        ({"global_pool_conditions": True}, "global_pool_conditions"),
        ({"conditioning_channels": 1}, "1 channels"),
        ({"controlnet_conditioning_channel_order": "bgr"}, "bgr"),
    ],
)
def test_a_control_net_of_another_architecture_is_refused_before_it_is_loaded(tiny, tmp_path, sizes, named):
    net = control_net(tmp_path / "net", **sizes)
    controlled = ControlNet(expert=StableDiffusion(weights=str(tiny / "sd")), weights=str(net))
    with pytest.raises(UserError, match=named):
        controlled.find()


def test_another_model_in_its_place_is_refused(tiny, tmp_path):
    UNet2DConditionModel.from_pretrained(tiny / "sd" / "unet").save_pretrained(tmp_path / "net")
    controlled = ControlNet(expert=StableDiffusion(weights=str(tiny / "sd")), weights=str(tmp_path / "net"))
    with pytest.raises(UserError, match="UNet2DConditionModel"):
        controlled.find()


def test_a_wrapper_inside_is_refused(tiny):
    with pytest.raises(ValueError, match="View"):
        ControlNet(expert=View(expert=StableDiffusion(weights=str(tiny / "sd"))))
