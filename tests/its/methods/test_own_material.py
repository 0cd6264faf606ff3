"""Samples that start from, keep, follow or change between the user's own material, on tiny weights."""

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from tiny_method import PROMPTS, make, method

from its.diffusion.windows import Windows
from its.errors import UserError
from its.methods.conditioning import check_control, read_controls
from its.methods.decoder import decode, encode
from its.methods.denoising import WindowSize
from its.methods.media_cache import MediaCache
from its.methods.post_process import Clock
from its.specs.prompts import PromptGrid
from its_plugins.combiners.regions import Regions
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.control_net import ControlNet
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.experts.view import View
from its_plugins.random_weights.stable_diffusion import control_net
from its_plugins.schedulers.diffusers_scheduler import DiffusersScheduler

START = {"image": "castle.png", "strength": 0.5}


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    """A picture and a mask of 96 x 64 pixels, the visible part of the canvas, and half a second of a tone."""
    monkeypatch.chdir(tmp_path)
    source = np.random.default_rng(0)
    Image.fromarray(source.integers(0, 255, (64, 96, 3), dtype=np.uint8)).resize((96, 64)).save("castle.png")
    mask = np.zeros((64, 96), np.uint8)
    mask[:, :40] = 255
    Image.fromarray(mask).save("mask.png")
    soundfile.write("tone.wav", 0.5 * np.sin(2 * np.pi * 440 * np.arange(8_000) / 16_000), 16_000)
    return tmp_path


def specs(*rows, seeds=(1,), **arguments):
    grid = PromptGrid(prompts=[PROMPTS | row for row in rows], seeds=list(seeds), **arguments)
    return grid.expand(["visual", "audio"])


def test_strength_1_equals_plain_sampling_to_the_bit(tiny):
    model = method(tiny)
    plain, started = make(model, *specs({}, {"start": {**START, "strength": 1.0}}))
    assert torch.equal(plain.latents, started.latents)
    assert torch.equal(plain.waveform, started.waveform)


@pytest.mark.parametrize("file", [{"image": "castle.png"}, {"audio": "tone.wav"}])
def test_strength_0_is_the_round_trip_of_the_codec(tiny, file):
    model = method(tiny)
    (made,) = make(model, *specs({"start": {**file, "strength": 0.0}}))
    form = model.post_process.vocoder.format
    if "image" in file:
        codec, pixels = model.decoder.picture, np.asarray(Image.open("castle.png"), dtype=np.float32) / 255
        gray = torch.full((64, 128), float(form.silence))
        gray[:, :96] = torch.from_numpy(pixels).mean(2)
    else:
        codec, sound = model.decoder.sound, torch.zeros(1, 128 * 160)
        sound[0, :8_000] = torch.from_numpy(soundfile.read("tone.wav", dtype="float32")[0])
        gray = form.to_picture(form.log_mel(sound))[0, 0].clamp(0, 1)
    latents = encode(codec, gray.expand(1, 3, -1, -1))
    torch.testing.assert_close(made.latents, latents[0])
    expected = decode(model.decoder.sound, latents)[0].mean(0)[:, :96]
    torch.testing.assert_close(made.spectrogram, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("scheduler", [None, DiffusersScheduler()])
def test_between_them_the_start_is_noised_to_its_step_and_denoised(tiny, scheduler):
    model = method(tiny, **({} if scheduler is None else {"scheduler": scheduler}))
    (spec,) = specs({"start": {**START, "strength": 0.3}})
    assert model.first_step(spec) == 7
    steps = []
    model.on_step = lambda step, size: steps.append(step.index)
    (made,) = make(model, spec)
    assert steps == [7, 8, 9]
    with torch.inference_mode():
        clean, (_, noise) = model.starts.latents([spec], model.device), model.starts.noise([spec])
        z = model.process.scheduler.plan(10).add_noise(clean, noise, 7)
        torch.testing.assert_close(model.first_latents([spec])[1], z)
    weaker, plain = make(model, *specs({"start": {**START, "strength": 0.1}}), *specs({}))
    distance = [float((x.latents - clean[0]).square().mean()) for x in (weaker, made, plain)]
    assert distance == sorted(distance)


def test_rows_of_other_strengths_never_share_a_batch_and_equal_themselves_alone(tiny):
    model = method(tiny)
    rows = specs(
        {}, {"start": START}, {"start": {**START, "strength": 0.8}}, {"start": START, "keep": {"mask": "mask.png"}}
    )
    assert len({model.batch_key(spec) for spec in rows}) == 3
    together = model.run_batch(rows)
    for spec, sample in zip(rows, together, strict=True):
        (alone,) = make(model, spec)
        torch.testing.assert_close(sample.result.latents, alone.latents, rtol=0, atol=1e-4)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_the_kept_region_ends_as_the_start(tiny, strength):
    model = method(tiny)
    row = {"start": {**START, "strength": strength}}
    (kept,), (free,) = (make(model, *specs(row | extra)) for extra in ({"keep": {"mask": "mask.png"}}, {}))
    with torch.inference_mode():
        (clean,) = model.starts.latents(specs(row), model.device)
    assert torch.equal(kept.latents[..., :5], clean[..., :5])  # 40 pixels
    assert not torch.allclose(kept.latents[..., 5:], clean[..., 5:], atol=0.1)
    assert not torch.allclose(free.latents[..., :5], clean[..., :5], atol=0.1)


def test_a_latent_with_any_pixel_to_keep_is_kept(tiny):
    mask = np.zeros((64, 96), np.uint8)
    mask[10, 20] = 255
    Image.fromarray(mask).save("mask.png")
    model = method(tiny)
    (region,) = model.starts.masks(specs({"start": START, "keep": {"mask": "mask.png"}}), model.device)
    assert region.nonzero().tolist() == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("row", "size", "expected"),
    [
        ({"start": START}, (95, 64), "95 x 64 pixels; expected .* 96 x 64"),
        (
            {"start": {"audio": "tone.wav", "strength": 0.5}},
            (40, 64),
            "40 x 64 pixels; expected .* 128 x 64 or 96 x 64",
        ),
    ],
)
def test_a_mask_of_another_size_is_refused_before_sampling(tiny, row, size, expected):
    Image.new("L", size).save("mask.png")
    (spec,) = specs(row | {"keep": {"mask": "mask.png"}})
    with pytest.raises(UserError, match=expected):
        method(tiny).definition(spec)


def test_a_mask_without_a_light_pixel_is_refused(tiny):
    Image.new("L", (96, 64)).save("mask.png")
    (spec,) = specs({"start": START, "keep": {"mask": "mask.png"}})
    with pytest.raises(UserError, match="mask.png has no light pixel"):
        method(tiny).definition(spec)


def test_the_prediction_of_a_step_has_the_kept_region(tiny):
    model, predictions = method(tiny), []
    model.on_step = lambda step, size: predictions.append(step.predict_clean())
    (spec,) = specs({"start": {**START, "strength": 1.0}, "keep": {"mask": "mask.png"}})
    make(model, spec)
    with torch.inference_mode():
        (clean,) = model.starts.latents([spec], model.device)
    assert all(torch.equal(each[0, :, :, :5], clean[..., :5]) for each in predictions)


def test_files_are_read_once_for_all_batches(tiny, monkeypatch):
    from its.specs import media

    read, count = media.read_limited, []
    monkeypatch.setattr(media, "read_limited", lambda *a, **k: (count.append(a[0]), read(*a, **k))[1])
    model = method(tiny)
    rows = specs({"start": START, "keep": {"mask": "mask.png"}}, seeds=[1, 2])
    make(model, *rows)
    before = len(count)
    make(model, *rows)
    assert len(count) == before


def test_a_start_that_changed_since_fails_alone(tiny):
    model, rows = method(tiny), specs({"start": START}, {})
    Image.new("L", (96, 64)).save("castle.png")
    changed, plain = model.run_batch(rows)
    assert "castle.png has changed" in changed.error
    assert plain.error is None


def controlled(tiny, folder, **changes):
    weights = str(control_net(folder / "net"))
    experts = {
        "visual": ControlNet(expert=StableDiffusion(weights=str(tiny / "sd")), weights=weights),
        "audio": Auffusion(weights=str(tiny / "auffusion")),
    }
    return method(tiny, experts=experts, **changes)


def test_a_control_picture_changes_its_own_sample_only(tiny, own):
    model = controlled(tiny, own)
    rows = specs({}, {"control": {"image": "castle.png"}}, {"control": {"image": "castle.png", "edges": True}})
    plain, picture, edges = make(model, *rows)
    assert torch.allclose(plain.latents, make(method(tiny), rows[0])[0].latents, atol=1e-4)
    for one, other in ((plain, picture), (plain, edges), (picture, edges)):
        assert not torch.allclose(one.latents, other.latents, atol=1e-2)
    (alone,) = make(model, rows[1])
    torch.testing.assert_close(alone.latents, picture.latents, rtol=0, atol=1e-4)


def test_edges_are_those_of_the_photo_and_not_of_the_margins_around_it():
    photo = Image.new("L", (60, 60), 255)
    photo.paste(90, (15, 15, 45, 45))
    photo.save("photo.png")
    (spec,) = specs({"control": {"image": "photo.png", "edges": True}})
    picture, _ = read_controls([spec], 1, canvas=(64, 128), trim=32, cached=MediaCache())
    rows, columns = picture[0, 0, 0].nonzero(as_tuple=True)
    assert len(rows) > 60
    assert rows.min() > 12
    assert rows.max() < 52
    assert columns.min() > 28  # the photo covers columns 16 to 80
    assert columns.max() < 68


@pytest.mark.parametrize(("size", "column"), [((96, 64), 90), ((128, 64), 90)])
def test_a_control_picture_of_the_visible_part_or_of_the_canvas_stays_where_it_is(size, column):
    drawing = Image.new("L", size)
    drawing.paste(255, (column, 10, column + 2, 50))
    drawing.save("line.png")
    (spec,) = specs({"control": {"image": "line.png"}})
    picture, _ = read_controls([spec], 1, canvas=(64, 128), trim=32, cached=MediaCache())
    assert picture[0, 0, 0].nonzero()[:, 1].unique().tolist() == [column, column + 1]


def test_experts_with_different_numbers_of_control_nets_are_refused(tiny, own):
    (spec,) = specs({"control": {"image": "castle.png"}})
    counts = [Local(1), Local(2)]
    with pytest.raises(UserError, match="model.experts have 1 and 2 control nets"):
        check_control(spec, counts)


class Local:
    def __init__(self, controls):
        self.controls = controls


def test_a_view_of_a_controlled_expert_has_the_view_of_the_picture_also_in_windows(tiny, own):
    net = str(control_net(own / "net"))

    def noise_of(wrap, picture, z):
        expert = wrap(ControlNet(expert=StableDiffusion(weights=str(tiny / "sd")), weights=net))
        expert.prepare()
        expert.load()
        text = expert.add_control(expert.encode_text(["dog"]), picture, torch.ones(1, 1))
        return expert.predict_noise(z, torch.tensor([500]), text)

    source = torch.manual_seed(0)
    z, picture = torch.randn(1, 4, 8, 16, generator=source), torch.rand(1, 1, 3, 64, 128, generator=source)
    for wrap in (lambda x: x, lambda x: Windows(expert=x, width=64, stride=32)):
        mirrored = noise_of(lambda x, wrap=wrap: wrap(View(expert=x, flips=["time"])), picture, z)
        flipped = noise_of(wrap, picture.flip(-1), z.flip(-1)).flip(-1)
        torch.testing.assert_close(mirrored, flipped, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("control", "expected"),
    [
        ({"image": "castle.png"}, "control: no expert has a control net"),
        ([{"image": "castle.png"}, {"image": "mask.png"}], "control pictures is 2; expected 1"),
    ],
)
def test_a_control_picture_needs_its_control_net(tiny, own, control, expected):
    model = method(tiny) if isinstance(control, dict) else controlled(tiny, own)
    (spec,) = specs({"control": control})
    with pytest.raises(UserError, match=expected):
        model.definition(spec)


def wide(tiny, **changes):
    return method(tiny, **{"canvas": (64, 256), "windows": WindowSize(width=128, stride=64), **changes})


def test_windows_as_wide_as_the_canvas_equal_plain_sampling(tiny):
    (plain,), (windows,) = (
        make(method(tiny, **options), *specs({})) for options in ({}, {"windows": WindowSize(width=128, stride=64)})
    )
    assert torch.equal(plain.latents, windows.latents)


def test_a_wide_canvas_is_one_picture_and_one_sound(tiny):
    (made,) = make(wide(tiny), *specs({}))
    assert made.spectrogram.shape == (64, 224)
    assert made.waveform.shape == (224 * 160,)


def test_a_transition_interpolates_text_linearly_and_noise_spherically(tiny):
    model, to = method(tiny), {"visual": "dog", "audio": "dog barking", "seed": 9}
    rows = specs({"interpolate": {"to": to, "samples": 3}})
    begin, middle, end = make(model, *rows)
    plain = make(model, *specs({}), *specs({"visual": "dog", "audio": "dog barking"}, seeds=[9]))
    assert torch.allclose(begin.latents, plain[0].latents, atol=1e-4)
    assert torch.allclose(end.latents, plain[1].latents, atol=1e-4)
    with torch.inference_mode():
        noise = [model.starts.noise([spec])[1] for spec in rows]
        torch.testing.assert_close(noise[1], (noise[0] + noise[2]) * 0.5**0.5)
        (estimator,) = (
            model._estimator(name, expert, rows[1:2]) for name, expert in model.named_experts() if name == "visual"
        )
        texts = model.experts["visual"].encode_text([PROMPTS["visual"], "dog"])
        torch.testing.assert_close(estimator.text[1], texts.mean(0))
    assert not torch.allclose(middle.latents, begin.latents, atol=0.1)


def test_one_canvas_changes_from_one_prompt_and_seed_to_the_other(tiny):
    model, to = wide(tiny), {"visual": "dog", "seed": 9}
    (spec,) = specs({"interpolate": {"to": to, "canvas": True}})
    with torch.inference_mode():
        text = model._estimator("visual", model.experts["visual"], [spec]).text[1]
        ends = model.experts["visual"].encode_text([PROMPTS["visual"], "dog"])[:, 0]
        torch.testing.assert_close(text[0], ends[0])
        torch.testing.assert_close(text[1], ends.mean(0))
        torch.testing.assert_close(text[2], ends[1])
        begin, end = (model.starts.noise(specs({}, seeds=[seed]))[1] for seed in (1, 9))
        noise = model.starts.noise([spec])[1]
        torch.testing.assert_close(noise[..., 0], begin[..., 0])
        torch.testing.assert_close(noise[..., -1], end[..., -1], rtol=0, atol=1e-6)
    make(model, spec)


def test_several_prompts_on_one_canvas_need_several_windows(tiny):
    (spec,) = specs({"interpolate": {"to": {"visual": "dog"}, "canvas": True}})
    for model in (method(tiny), wide(tiny, canvas=(64, 128))):
        with pytest.raises(UserError, match="needs several windows.*model.windows"):
            model.definition(spec)


def test_a_loop_is_the_same_from_any_column_on(tiny):
    """Noise that is rotated by a window's stride makes the rotated picture."""
    model = wide(tiny, loop=True, trim=0)
    (spec,) = specs({})
    with torch.inference_mode():
        clock, noise = Clock(model.device), model.first_latents([spec])[1]
        latents = model.denoise_latents([spec], noise, clock=clock)
        rolled = model.denoise_latents([spec], noise.roll(8, -1), clock=clock)
        torch.testing.assert_close(rolled, latents.roll(8, -1), rtol=0, atol=1e-3)
        picture, _ = model.decoder(latents)
        shifted, _ = model.decoder(latents.roll(16, -1))
        torch.testing.assert_close(shifted, picture.roll(128, -1), rtol=0, atol=1e-4)
    (made,) = make(model, spec)
    assert made.spectrogram.shape == (64, 256)
    assert made.waveform.shape == (256 * 160,)
    # Rotated as a whole, to the quietest place
    shift = next(k for k in range(32) if torch.allclose(made.latents, latents[0].roll(-k, -1), atol=1e-4))
    torch.testing.assert_close(made.picture, picture[0].roll(-8 * shift, -1), rtol=0, atol=1e-4)
    loudness = made.spectrogram.mean(0)
    assert torch.cat([loudness[-8:], loudness[:8]]).mean() < loudness.mean()


@pytest.mark.parametrize("columns", [136, 200])
def test_a_loop_may_have_any_width_of_whole_latents(tiny, columns):
    (made,) = make(method(tiny, canvas=(64, columns), loop=True, trim=0), *specs({}))
    assert made.spectrogram.shape == (64, columns)


def test_a_loop_with_regions_stays_where_they_are(tiny):
    masks = {"visual": {"right": 0.5}, "audio": 1.0}
    regions = Regions(masks=masks, combiner=WarmStartAverage(t={"visual": 1.0, "audio": 1.0}))
    model = method(tiny, combiner=regions, loop=True, trim=0)
    assert not model._has_no_places(specs({})[0])
    assert method(tiny, loop=True, trim=0)._has_no_places(specs({})[0])


def test_a_loop_of_own_material_stays_where_the_material_is(tiny):
    model = wide(tiny, loop=True, trim=0)
    (spec,) = specs({"start": {**START, "strength": 0.0}})
    (made,) = make(model, spec)
    with torch.inference_mode():
        assert torch.equal(made.latents, model.starts.latents([spec], model.device)[0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loop": True, "trim": 32}, r"model.trim is 32; expected 0 with model.loop"),
        ({"windows": (64, 128)}, r"width 64 and stride 128"),
        ({"windows": (64, 0)}, r"width 64 and stride 0"),
        ({"windows": (60, 30)}, r"model.windows has width 60; expected a multiple of 8"),
        ({"guidance_rescale": 1.5}, r"model.guidance_rescale is 1.5"),
    ],
)
def test_wrong_settings_are_named(tiny, changes, message):
    if "windows" in changes:
        width, stride = changes["windows"]
        changes = {"windows": WindowSize(width=width, stride=stride)}
    with pytest.raises(UserError, match=message):
        method(tiny, **changes)
