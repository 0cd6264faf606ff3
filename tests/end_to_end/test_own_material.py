"""The user's own material in `its predict`, on the layouts of the real repositories and with the embedded pack."""

import hub_trees
import numpy as np
import pytest
import soundfile
from PIL import Image

SCRIBBLE = f"{hub_trees.SCRIBBLE}/diffusion_pytorch_model.safetensors"


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = np.random.default_rng(0)
    Image.fromarray(source.integers(0, 255, (256, 64), dtype=np.uint8)).save("castle.png")
    mask = np.zeros((256, 64), np.uint8)
    mask[:, :32] = 255
    Image.fromarray(mask).save("mask.png")
    Image.fromarray(mask[:, :40]).save("small.png")
    soundfile.write("bell.wav", np.sin(np.arange(8_000) / 6), 16_000)
    return tmp_path


def test_an_outline_guides_the_real_layouts_and_its_weights_are_recorded(cached, own):
    outline = "castle_bell.yaml+outline.yaml"
    record = cached.made("--data.control.image=castle.png", "--data.control.edges=true", config=outline)
    assert cached.weights_served() == [SCRIBBLE]
    (net,) = record["weights"]["experts.visual"]["control"]
    assert net == {
        "name": hub_trees.SCRIBBLE,
        "revision": hub_trees.COMMITS[hub_trees.SCRIBBLE, "main"],
        "files": ["diffusion_pytorch_model.safetensors"],
    }
    (control,) = record["settings"]["control"]
    assert control["image"].startswith("sha256:")
    assert (control["scale"], control["edges"]) == (1.0, True)
    half = cached.predict(
        "--data.control.image=castle.png", "--model.experts.visual.init_args.variant=fp16", config=outline
    )
    assert half.status == 2  # that file is a placeholder here, and was chosen
    assert f"{hub_trees.SCRIBBLE} has a damaged safetensors file" in half.err


def test_a_started_sample_is_resumed_and_made_again_from_its_file(cached, own):
    arguments = ["--data.start={image: castle.png, strength: 0.5}", "--data.keep={mask: mask.png}"]
    record = cached.made(*arguments)
    assert record["settings"]["start"]["strength"] == 0.5
    assert record["settings"]["keep"]["mask"].startswith("sha256:")
    again = cached.predict(*arguments)
    assert "1 of 1 images that sound" in again.out
    assert "1 of them from an earlier run" in again.out
    file = cached.run / "samples" / record["id"] / "spectrogram.png"
    first = file.read_bytes()
    rerun = cached.its("rerun", file, f"--output={own / 'again'}")
    assert rerun.status == 0, rerun.err
    (made,) = (own / "again" / "samples").iterdir()
    assert made.name == record["id"]
    pixels = [np.asarray(Image.open(path)) for path in (file, made / "spectrogram.png")]
    assert np.array_equal(*pixels)
    assert file.read_bytes() == first
    Image.new("L", (64, 256), 90).save("castle.png")
    changed = cached.its("rerun", file, f"--output={own / 'changed'}")
    assert record["id"] in changed.err


def test_a_transition_is_a_run_of_samples(cached, own):
    outcome = cached.predict("--data.interpolate={to: {visual: dog, seed: 5}, samples: 4}")
    assert outcome.status == 0, outcome.err
    records = cached.records()
    assert sorted((r["seed"], r["settings"].get("interpolate", {}).get("fraction", 0)) for r in records) == [
        (1, 0), (1, pytest.approx(1 / 3)), (5, 0), (5, pytest.approx(1 / 3)),
    ]  # fmt: skip


def test_a_loop_and_a_wide_canvas_are_runs_like_any_other(cached, own):
    small = ["--model.fallback=null", "--model.steps=2", "--data.seeds=[1]"]
    wide = ["--model.canvas=[256, 128]", "--model.trim=0", "--model.windows={width: 64, stride: 32}"]
    record = cached.made(*wide, "--model.loop=true", "--model.guidance_rescale=0.7", small=small)
    assert record["settings"]["loop"] is True
    assert record["settings"]["guidance_rescale"] == 0.7
    assert record["settings"]["experts"]["visual"]["width"] == 64
    frames = soundfile.info(next(cached.run.glob("samples/*/audio.wav"))).frames
    assert frames == 128 * 160


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--data.keep={mask: mask.png}"], "row 1: keep needs `start`"),
        (["--data.start={image: castle.png, strength: 0.5}", "--data.keep={mask: small.png}"], "expected .* 64 x 256"),
        (["--data.control.image=castle.png"], "control: no expert has a control net.*--config outline"),
        (["--model.windows={width: 32, stride: 64}"], "width 32 and stride 64; expected a stride"),
        (["--model.windows={width: 60, stride: 30}"], "model.windows has width 60; expected a multiple of 8"),
        (["--model.loop=true", "--model.trim=8"], "model.trim is 8; expected 0 with model.loop"),
        (["--data.interpolate={to: {visual: dog}, canvas: true}"], "needs several windows"),
        (["--method=Imprint", "--data.start={image: castle.png, strength: 0.5}"], "Imprint does not support start"),
    ],
)
def test_wrong_material_is_one_message_before_anything_is_downloaded(cached, own, arguments, expected):
    import re

    imprint = arguments[0] == "--method=Imprint"
    config = "castle_bell.yaml+methods/imprint.yaml" if imprint else "castle_bell.yaml"
    message = cached.refused(*arguments[imprint:], config=config)
    assert re.search(expected, message), message


def test_a_control_net_of_another_architecture_is_refused_before_its_weights_are_downloaded(cached, own):
    from its_plugins.random_weights.stable_diffusion import control_net

    cached.hub.add("somebody/sd2-scribble", control_net(own / "net", cross_attention_dim=32))
    message = cached.refused(
        "--data.control.image=castle.png",
        "--model.experts.visual.init_args.weights=somebody/sd2-scribble",
        config="castle_bell.yaml+outline.yaml",
    )
    assert "cross_attention_dim is 32" in message
    assert "lllyasviel/control_v11p_sd15_scribble" in message
