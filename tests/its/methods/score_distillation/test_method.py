"""The score distillation method: configs, mixed latent spaces, gradients under Lightning, resuming."""

import json
import signal
import sys
from pathlib import Path

import pytest
import torch
import yaml

from its import registry
from its.cli import main
from its.engine.build import build
from its.errors import UserError
from its.interfaces import Colorizer
from its.methods.sample import CHECKPOINT
from its.methods.score_distillation.implicit_image import Network
from its.methods.score_distillation.method import ScoreDistillation
from its.methods.score_distillation.optimisation import SDSGuidance
from its.specs.spec import SampleSpec
from its_plugins.experts.auffusion import Auffusion
from its_plugins.experts.deepfloyd_if import DeepFloydIF
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.random_weights.deepfloyd_if import deepfloyd_if
from its_plugins.random_weights.stable_diffusion import SCHEDULER
from its_plugins.vocoders.griffin_lim import GriffinLim
from its_plugins.vocoders.hifi_gan import HiFiGAN

ROOT = Path(__file__).parents[4]
PROMPTS = {"visual": "castle towers", "audio": "bell ringing"}
SMALL = Network(features=4, width=8, layers=1)


def row(seed=1, settings=None) -> SampleSpec:
    return SampleSpec(
        prompts=PROMPTS,
        negative_prompts={"visual": "", "audio": ""},
        guidance_scale={"visual": 5.0, "audio": 2.0},
        seed=seed,
        settings=settings or {},
        source="test",
    )


def method(tiny, *, load=True, **changes) -> ScoreDistillation:
    arguments = {
        "experts": {
            "visual": StableDiffusion(weights=str(tiny / "sd")),
            "audio": Auffusion(weights=str(tiny / "auffusion")),
        },
        "vocoder": HiFiGAN(weights=str(tiny / "auffusion")),
        "iterations": 2,
        "network": SMALL,
        "probes": 2,
        "canvas": (64, 64),
    }
    model = ScoreDistillation(**{**arguments, **changes})
    if load:
        model.prepare()
        model.configure_model()
    return model


def make(model, *rows):
    samples = model.predict_step(list(rows))
    assert [s.error for s in samples] == [None] * len(rows)
    return samples


def test_a_row_is_the_same_alone_and_in_a_batch_and_under_inference_mode(tiny):
    model = method(tiny)
    together = make(model, row(seed=1), row(seed=2))
    with torch.inference_mode():
        (alone,) = make(model, row(seed=2))
    assert torch.equal(together[1].result.spectrogram, alone.result.spectrogram)
    assert not torch.equal(together[0].result.spectrogram, alone.result.spectrogram)
    assert torch.equal(alone.result.picture.mean(0), alone.result.spectrogram)
    assert alone.result.latents is None


def test_the_sample_depends_on_prompts_scales_and_guides(tiny):
    first = make(method(tiny), row())[0].result.spectrogram
    for changes in (
        {"guides": {"visual": SDSGuidance(weight=0.1)}},
        {"learning_rate": 1e-2},
        {"timesteps": (0.5, 0.6)},
    ):
        other = method(tiny, **changes)
        assert not torch.equal(make(other, row())[0].result.spectrogram, first)
        assert other.definition(row()) != method(tiny).definition(row())


def test_a_sweep_over_weights_equals_runs_with_them(tiny):
    swept = row(settings={"guides.visual.weight": 0.25, "learning_rate": 1e-2})
    model = method(tiny, guides={"visual": SDSGuidance(weight=0.25)}, learning_rate=1e-2)
    assert method(tiny).definition(swept) == model.definition(row())
    assert torch.equal(make(method(tiny), swept)[0].result.spectrogram, make(model, row())[0].result.spectrogram)
    assert method(tiny).batch_key(row(settings={"iterations": 3})) != method(tiny).batch_key(row())
    for settings, message in (
        ({"steps": 3}, "no setting steps"),
        ({"guides": 3}, "guides can't be swept as one setting; expected one of guides.visual.weight"),
        ({"guides.visual.wait": 3}, "guides.visual.wait: expected one of visual.weight, audio.weight"),
    ):
        with pytest.raises(UserError, match=message):
            method(tiny).definition(row(settings=settings))


def test_a_colorizer_gets_the_image(tiny):
    class Tint(Colorizer):
        def forward(self, gray, prompts, generators):
            assert prompts == ["a colorful photo of castle towers"]
            return gray + torch.tensor([-0.1, 0.0, 0.1]).reshape(1, 3, 1, 1)

    (sample,) = make(method(tiny, colorizer=Tint()), row())
    torch.testing.assert_close(sample.result.color.mean(0), sample.result.spectrogram, rtol=0, atol=1e-5)


def test_equal_codecs_are_loaded_once(tiny):
    experts = {"visual": StableDiffusion(weights=str(tiny / "sd")), "audio": Auffusion(weights=str(tiny / "sd"))}
    assert [key for key, _ in method(tiny, experts=experts).components()][2:] == ["codecs.visual", "vocoder"]
    assert [key for key, _ in method(tiny).components()][2:] == ["codecs.visual", "codecs.audio", "vocoder"]


def test_a_sample_that_is_not_finite_leaves_no_checkpoint(tiny, tmp_path):
    class Broken(StableDiffusion):
        def predict_noise(self, latents, timestep, text):
            return super().predict_noise(latents, timestep, text) * torch.nan

    experts = {"visual": Broken(weights=str(tiny / "sd")), "audio": Auffusion(weights=str(tiny / "auffusion"))}
    model = method(tiny, experts=experts, checkpoint_every=2)
    model.samples = tmp_path
    (sample,) = model.predict_step([row()])
    assert sample.error == "not finite: the spectrogram"
    assert not list(tmp_path.rglob(CHECKPOINT))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experts": {}}, "model.experts is empty"),
        ({"guides": {"visuel": SDSGuidance()}}, "model.guides .*visuel.*Did you mean visual"),
        ({"guides": {"visual": SDSGuidance(crop=(99, 9))}}, r"model.guides.visual: crop is \[99, 9\]"),
        (
            {"guides": {"visual": SDSGuidance(begin=1), "audio": SDSGuidance(begin=2)}},
            "no expert has begin 0",
        ),
        ({"iterations": 0}, "model.iterations is 0"),
        ({"checkpoint_every": 0}, "model.checkpoint_every is 0"),
        ({"timesteps": (0.9, 0.1)}, r"model.timesteps is \[0.9, 0.1\]"),
    ],
)
def test_arguments_that_make_no_sense(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        method(tiny, load=False, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"guides": {"visual": SDSGuidance(crop=(60, 60))}}, "model.guides.visual: .*multiples of 8"),
        ({"canvas": (128, 64)}, "model.canvas has 128 rows, .* HiFiGAN .*64"),
    ],
)
def test_views_and_canvases_that_do_not_fit(tiny, changes, message):
    with pytest.raises(UserError, match=message):
        method(tiny, **changes)


@pytest.fixture(scope="module")
def floyd(tmp_path_factory):
    return deepfloyd_if(tmp_path_factory.mktemp("floyd"))


def sds(config, floyd, *arguments):
    """Arguments for the paper's config on tiny weights: a pixel expert with a cosine schedule and a latent expert."""
    return [
        "predict",
        f"--config={config}",
        f"--config={ROOT / 'configs/methods/sds.yaml'}",
        f"--model.experts.visual.init_args.weights={floyd}",
        "--model.experts.visual.init_args.variant=null",
        "--model.guides.visual={begin: 2, crops: 2, crop: [64, 64], resize: [16, 16]}",
        "--model.iterations=5",
        "--model.network={features: 4, width: 8, layers: 1}",
        "--model.checkpoint_every=2",
        "--model.probes=1",
        "--data.seeds=[1]",
        *map(str, arguments),
    ]


def folders(output):
    return sorted((Path(output) / "samples").iterdir())


def test_the_papers_config_makes_a_run_folder_like_any_other(config, floyd, tmp_path, capsys):
    assert main(sds(config, floyd, "--save=[image]")) == 0
    (folder,) = folders(tmp_path / "run")
    assert {p.name for p in folder.iterdir()} == {"spectrogram.png", "audio.wav", "image.png", "sample.json"}
    record = json.loads((folder / "sample.json").read_text())
    assert record["settings"]["method"] == "score distillation"
    assert record["settings"]["guides"]["visual"]["resize"] == [16, 16]
    assert record["settings"]["guidance_scale"] == {"visual": 80.0, "audio": 10.0}
    found = record["scores"]["denoising_error"]
    assert found.keys() == {"visual", "audio"}
    assert all(errors["before"] > 0 and errors["after"] > 0 for errors in found.values())
    assert set(record["weights"]) == {"experts.visual", "experts.audio", "codecs.audio", "vocoder"}
    before = (folder / "sample.json").stat().st_mtime_ns
    capsys.readouterr()
    assert main(["predict", f"--config={tmp_path / 'run' / 'its_config.yaml'}"]) == 0
    assert "1 of them from an earlier run" in capsys.readouterr().out
    assert (folder / "sample.json").stat().st_mtime_ns == before


def test_the_small_config_runs_tiny_too(config, tmp_path):
    small = ["--model.iterations=1", "--model.canvas=[64, 64]", "--model.network={features: 4, width: 8, layers: 1}"]
    files = [f"--config={config}", f"--config={ROOT / 'configs/methods/sds_small.yaml'}"]
    assert main(["predict", *files, *small, "--model.probes=1", "--data.seeds=[1]"]) == 0
    assert len(folders(tmp_path / "run")) == 1


def test_half_precision_goes_backwards_too(config, floyd, tmp_path):
    assert main(sds(config, floyd, "--trainer.precision=bf16-true", "--model.iterations=3")) == 0
    record = json.loads((folders(tmp_path / "run")[0] / "sample.json").read_text())
    assert record["settings"]["precision"] == "bf16-true"


MORTAL = """
import os, signal
from its import register
from its_plugins.experts.auffusion import Auffusion

@register
class Mortal(Auffusion):
    "Kills the process at the evaluation DIES_AT."
    calls = 0

    def predict_noise(self, latents, timestep, text):
        self.calls += 1
        if str(self.calls) == os.environ.get("DIES_AT"):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict_noise(latents, timestep, text)
"""


def test_after_kill_9_the_same_command_goes_on_to_the_same_bits(config, floyd, tmp_path, tiny, monkeypatch, forks):
    (tmp_path / "mortal_plugin.py").write_text(MORTAL)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    mortal = [
        "--trust=mortal_plugin",
        "--model.experts.audio=Mortal",
        f"--model.experts.audio.init_args.weights={tiny / 'auffusion'}",
    ]
    try:
        assert main(sds(config, floyd, *mortal, f"--output={tmp_path / 'whole'}")) == 0
        killed = sds(config, floyd, *mortal, f"--output={tmp_path / 'killed'}")
        # After 1 probe, the process is killed in the fourth iteration; the last checkpoint is of the second.
        assert forks.wait(forks.start(killed, {"DIES_AT": "5"}, cwd=tmp_path)) == [-signal.SIGKILL]
        (folder,) = folders(tmp_path / "killed")
        assert [p.name for p in folder.iterdir()] == [CHECKPOINT]
        assert main(killed) == 0
    finally:
        torch.set_num_threads(threads)
        sys.modules.pop("mortal_plugin", None)
        registry._classes.pop("Mortal", None)
    (whole,), (resumed,) = folders(tmp_path / "whole"), folders(tmp_path / "killed")
    assert resumed.name == whole.name
    assert {p.name for p in resumed.iterdir()} == {"spectrogram.png", "audio.wav", "sample.json"}
    for name in ("spectrogram.png", "audio.wav"):
        assert (resumed / name).read_bytes() == (whole / name).read_bytes()
    scores = [json.loads((f / "sample.json").read_text())["scores"] for f in (whole, resumed)]
    assert scores[0] == scores[1]


def test_a_damaged_checkpoint_is_a_warning_and_the_sample_restarts(tiny, tmp_path):
    model = method(tiny, checkpoint_every=1)
    model.samples = tmp_path
    (first,) = make(model, row())
    (checkpoint,) = tmp_path.rglob(CHECKPOINT)
    checkpoint.write_bytes(b"nothing")
    with pytest.warns(UserWarning, match=r"checkpoint.safetensors can't be read .*: restarting the sample"):
        (again,) = make(model, row())
    assert torch.equal(first.result.spectrogram, again.result.spectrogram)


BLIND = """
from its import register
from its.interfaces import IdentityCodec
from its_plugins.experts.deepfloyd_if import DeepFloydIF

class Decoder(IdentityCodec):
    def encode(self, picture):
        {encode}

@register
class Blind(DeepFloydIF):
    "Has a codec without a usable encoder."
    def codec(self):
        return Decoder()
"""


@pytest.mark.parametrize(
    "encode", ["raise NotImplementedError('it only decodes')", "return super().encode(picture).detach()"]
)
def test_an_expert_without_an_encoder_is_one_message_and_status_2(config, floyd, tmp_path, monkeypatch, capsys, encode):
    (tmp_path / "blind_plugin.py").write_text(BLIND.format(encode=encode))
    monkeypatch.syspath_prepend(str(tmp_path))
    choice = [
        "--trust=blind_plugin",
        "--model.experts.visual=Blind",
        f"--model.experts.visual.init_args.weights={floyd}",
    ]
    choice += ["--model.experts.visual.init_args.variant=null"]
    try:
        assert main(sds(config, floyd, *choice)) == 2
    finally:
        sys.modules.pop("blind_plugin", None)
        registry._classes.pop("Blind", None)
    err = capsys.readouterr().err
    assert "model.experts.visual: score distillation backpropagates through the encoder" in err
    assert "Decoder can't encode with gradients" in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--save=[latents]"], "save contains latents, but ScoreDistillation"),
        (["--model.guides.visual.crop=[99, 99]"], "model.guides.visual: crop is [99, 99]"),
        (["--model.guides.visual.crap=[9, 9]"], "crap"),
        (["--model.network.width=0"], "network: width (=0) is too small"),
        (["--data.sweep={steps: [1]}"], "no setting steps"),
        (["--data.prompts=[{visual: {image: x.png}, audio: bell}]"], "x.png can't be used"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(config, floyd, arguments, message, capsys):
    assert main(sds(config, floyd, *arguments)) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (config.parent / "run").exists()


def test_the_pack_stands_in_with_settings_that_suit_it(monkeypatch):
    monkeypatch.chdir(ROOT)
    registry.load_plugins()
    files = [Path("configs/castle_bell.yaml"), Path("configs/methods/sds.yaml")]
    cli = build(files, ["--model.experts.visual.init_args.weights=nobody/nowhere"])
    small = yaml.safe_load(Path("configs/methods/sds_small.yaml").read_text())
    assert type(cli.model.experts["visual"]) is StableDiffusion
    assert cli.model.process.iterations == small["model"]["iterations"]
    assert cli.model.process.guides["visual"].resize is None
    assert cli.model.canvas == tuple(small["model"]["canvas"])
    assert cli.specs[0].guidance_scale == small["data"]["guidance_scale"]


def test_the_small_config_equals_the_packs():
    ours, packs = (ROOT / name for name in ("configs/methods/sds_small.yaml", "plugins/mini/sds.yaml"))
    assert ours.read_text(encoding="utf-8") == packs.read_text(encoding="utf-8")


def test_on_the_pack_both_experts_find_the_image_more_likely():
    model = ScoreDistillation(
        experts={
            "visual": StableDiffusion(weights="pack:mini"),
            "audio": Auffusion(weights="pack:mini", unet_folder="unet_audio"),
        },
        vocoder=GriffinLim(iterations=1),
        iterations=12,
        learning_rate=1e-2,
        probes=8,
        network=Network(width=16, scale=5.0),
        canvas=(256, 64),
        trim=0,
    )
    model.prepare()
    model.configure_model()
    (sample,) = make(model, row())
    for errors in sample.scores["denoising_error"].values():
        assert errors["after"] < 0.8 * errors["before"]


def test_experts_know_their_own_noise_schedules(floyd, tiny):
    from diffusers import DDIMScheduler, DDPMScheduler

    expert = DeepFloydIF(weights=str(floyd), variant=None)
    expert.prepare()
    cosine = DDPMScheduler(beta_schedule="squaredcos_cap_v2").alphas_cumprod
    torch.testing.assert_close(expert.alphas(), cosine)
    stable = DDIMScheduler(**{k: v for k, v in SCHEDULER.items() if k != "_class_name"}).alphas_cumprod
    other = StableDiffusion(weights=str(tiny / "sd"))
    other.find()
    torch.testing.assert_close(other.alphas(), stable)
