"""`its predict` as a user runs it, on tiny weights."""

import json
import os
import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from its import registry
from its.cli import main


def predict(config, *arguments):
    return main(["predict", "--config", str(config), *map(str, arguments)])


def samples(config):
    return sorted((Path(yaml.safe_load(config.read_text())["output"]) / "samples").iterdir())


def latents(config):
    return {folder.name: load_file(folder / "latents.safetensors")["latents"] for folder in samples(config)}


def test_a_page_shows_the_run_and_its_axes_are_known(config, capsys):
    assert predict(config, "--save", "[image]") == 0
    run = samples(config)[0].parent.parent
    assert f"gallery: {run / 'index.html'}" in capsys.readouterr().out
    text = (run / "index.html").read_text()
    shown = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL).group(1))
    assert [sample["id"] for sample in shown["samples"]] == [folder.name for folder in samples(config)]
    assert shown["samples"][0]["layers"] == ["image"]
    assert shown["pitches"][0][0]["label"] == "8k"
    assert shown["setups"][0]["settings"]["vocoder"]["class"] == "HiFiGAN"
    assert "<code>its predict --config its_config.yaml</code>" in text


def test_a_foreign_page_is_not_overwritten_and_the_samples_are_made(config, capsys):
    page = Path(yaml.safe_load(config.read_text())["output"]) / "index.html"
    page.parent.mkdir()
    page.write_text("mine")
    assert predict(config) == 0
    assert "the gallery was not written" in capsys.readouterr().err
    assert page.read_text() == "mine"


def test_a_foreign_config_is_not_overwritten_and_nothing_is_made(config, capsys):
    run = Path(yaml.safe_load(config.read_text())["output"])
    run.mkdir()
    (run / "its_config.yaml").write_text("mine: 1\n")
    assert predict(config) == 2
    assert re.search("its_config.yaml .*not written by .*move it", capsys.readouterr().err)
    assert [path.name for path in run.iterdir()] == ["its_config.yaml"]


def test_a_damaged_record_is_made_again(config, capsys):
    assert predict(config, "--model.steps=1") == 0
    (samples(config)[0] / "sample.json").write_text('{"status": "ok", "seed": 1' + "0" * 400 + "}")
    assert predict(config, "--model.steps=1") == 0
    assert "2 of 2 images that sound" in capsys.readouterr().out


def test_a_run_directory_has_the_documented_files(config, capsys):
    assert predict(config, "--save", "[image, latents]") == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert last.startswith("2 of 2 images that sound are in ")
    folders = samples(config)
    assert [f.name.rsplit("-", 1)[0] for f in folders] == [
        "castle-towers-bell-ringing-1",
        "castle-towers-bell-ringing-2",
    ]
    for folder in folders:
        names = {p.name for p in folder.iterdir()}
        assert names == {"spectrogram.png", "audio.wav", "image.png", "latents.safetensors", "sample.json"}
        record = json.loads((folder / "sample.json").read_text())
        assert record["id"] == folder.name
        assert record["status"] == "ok"
        assert record["prompts"] == {"visual": "castle towers", "audio": "bell ringing"}
        assert record["settings"]["guidance_scale"] == {"visual": 10.0, "audio": 7.5}
        assert record["settings"]["combiner"]["t"] == {"visual": 0.5, "audio": 1.0}
        assert {"steps", "scheduler", "canvas", "trim"} <= record["settings"].keys()
        assert set(record["weights"]) == {"experts.visual", "experts.audio", "codec", "sound_codec", "vocoder"}
        assert all("sha256" in weights for weights in record["weights"].values())
        assert record["fallback"] is None
        assert record["timings"]["denoise"] > 0
        assert record["versions"]["torch"] == torch.__version__.split("+")[0]


def test_the_resolved_config_makes_the_same_run_again(config, tmp_path):
    assert predict(config, "--save", "[latents]") == 0
    made = latents(config)
    resolved = samples(config)[0].parent.parent / "its_config.yaml"
    assert resolved.read_text().startswith("# python 3.")
    assert main(["predict", "--config", str(resolved), "--output", str(tmp_path / "again")]) == 0
    again = {f.name: load_file(f / "latents.safetensors")["latents"] for f in (tmp_path / "again/samples").iterdir()}
    assert again.keys() == made.keys()
    assert all(torch.equal(again[name], made[name]) for name in made)


def test_files_hold_neither_secrets_nor_the_home_folder_and_honour_the_umask(config, tmp_path, tiny, monkeypatch):
    secrets = {"HF_ENDPOINT": "http://me:sesame-1@127.0.0.1:1", "WANDB_API_KEY": "sesame-2", "HF_TOKEN": "hf_sesame-3"}
    for name, value in {**secrets, "HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "models").symlink_to(tiny)
    config.write_text(config.read_text().replace(str(tiny), str(tmp_path / "models")))
    trust = tmp_path / "leaky_combiner.py"
    trust.write_text(LEAKY)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = os.umask(0o077)
    try:
        options = ["--trust", "leaky_combiner", "--save=[image, video, latents]"]
        assert predict(config, *options, f"--output={tmp_path / 'run'}") == 0
        header = f"--model.combiner.headers={{Authorization: Bearer {secrets['HF_TOKEN']}}}"
        failing = [*options, "--model.combiner=Leaky", header, f"--output={tmp_path / 'failed'}"]
        assert predict(config, *failing) == 1
    finally:
        os.umask(before)
        registry._classes.pop("Leaky", None)
    files = [path for run in ("run", "failed") for path in (tmp_path / run).rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if path.stat().st_mode & 0o077] == []
    assert [path for path in files if b"sesame" in path.read_bytes()] == []
    assert [path for path in files if str(tmp_path).encode() in path.read_bytes()] == []
    assert "~/models/sd" in (samples(config)[0] / "sample.json").read_text()
    record = json.loads(next((tmp_path / "failed/samples").rglob("sample.json")).read_text())
    assert record["error"] == "RuntimeError: http://(left out)@127.0.0.1:1 refused ~/models with (left out)"
    # The paths are read back as they are written.
    again = main(["predict", "--config", str(tmp_path / "run/its_config.yaml"), f"--output={tmp_path / 'again'}"])
    assert again == 0
    names = [[path.name for path in sorted((tmp_path / run / "samples").iterdir())] for run in ("run", "again")]
    assert names[0] == names[1]


LEAKY = """
import os
from pathlib import Path
from its import register
from its_plugins.combiners.warm_start_average import WarmStartAverage


@register
class Leaky(WarmStartAverage):
    'Fails with secrets in its message.'

    def __init__(self, *, headers: dict[str, str]) -> None:
        super().__init__(t={"visual": 1.0, "audio": 1.0})

    def combine(self, estimates, latents, progress):
        raise RuntimeError(f"{os.environ['HF_ENDPOINT']} refused {Path.home()}/models with {os.environ['HF_TOKEN']}")
"""


def test_the_resolved_config_holds_the_arguments_of_objects(config):
    logger = ["--trainer.logger=CSVLogger", f"--trainer.logger.save_dir={config.parent}"]
    assert predict(config, *logger, "--trainer.logger.prefix=visible") == 0
    assert "visible" in (samples(config)[0].parent.parent / "its_config.yaml").read_text()


def test_the_same_command_again_makes_only_what_is_missing(config, capsys):
    assert predict(config) == 0
    first, second = samples(config)
    before = (first / "sample.json").stat().st_mtime_ns
    (second / "sample.json").unlink()
    capsys.readouterr()
    assert predict(config) == 0
    assert "2 of 2 images that sound" in (out := capsys.readouterr().out)
    assert "1 of them from an earlier run" in out
    assert (first / "sample.json").stat().st_mtime_ns == before
    assert (second / "sample.json").exists()


def test_an_overlay_and_the_command_line_exchange_parts(config, tmp_path):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("model: {vocoder: {class_path: GriffinLim, init_args: {format: {n_mels: 64}, iterations: 2}}}")
    arguments = [
        "--model.steps=3",
        "--data.seeds",
        "{start: 5, count: 1}",
        "--model.scheduler.init_args.spacing=trailing",
    ]
    assert predict(config, "--config", overlay, *arguments) == 0
    record = json.loads((samples(config)[0] / "sample.json").read_text())
    assert record["seed"] == 5
    assert record["settings"]["steps"] == 3
    assert record["settings"]["scheduler"]["spacing"] == "trailing"
    assert record["settings"]["vocoder"]["class"] == "GriffinLim"


def test_the_choice_of_a_vocoder_drops_the_arguments_of_the_other(config):
    arguments = ["--model.vocoder", "GriffinLim", "--model.vocoder.init_args.format.n_mels", "64"]
    assert predict(config, *arguments, "--model.vocoder.init_args.iterations=1", "--model.steps=2") == 0


def test_a_vocoder_of_another_format_is_one_message_with_the_right_one(config, tiny, capsys):
    expert = f"--model.experts.audio={{class_path: Riffusion, init_args: {{weights: {tiny / 'auffusion'}}}}}"
    assert predict(config, expert, "--model.canvas=[512, 128]") == 2
    error = capsys.readouterr().err
    assert "set model.vocoder to GriffinLim that supports any format" in error
    assert "Traceback" not in error


def test_one_expert_alone(config, tmp_path):
    overlay = tmp_path / "audio_only.yaml"
    overlay.write_text(
        """
        model: {experts: {visual: null}, combiner: {init_args: {t: {visual: null}}}}
        data: {prompts: [{audio: bell ringing}], guidance_scale: {visual: null}}
        """
    )
    assert predict(config, "--config", overlay) == 0
    assert json.loads((samples(config)[0] / "sample.json").read_text())["prompts"] == {"audio": "bell ringing"}


def test_half_precision_keeps_the_vocoder_in_float32(config):
    assert predict(config, "--trainer.precision", "bf16-true", "--model.steps=2") == 0
    assert json.loads((samples(config)[0] / "sample.json").read_text())["settings"]["precision"] == "bf16-true"


def test_a_row_that_fails_is_named_and_the_others_are_made(config, tmp_path, capsys):
    (tmp_path / "sabotage.py").write_text(
        "from its import register\n"
        "from its_plugins.combiners.warm_start_average import WarmStartAverage\n"
        "import torch\n"
        "@register\n"
        "class SecondIsNaN(WarmStartAverage):\n"
        "    'Spoils the second sample of each batch.'\n"
        "    def combine(self, estimates, latents, progress):\n"
        "        noise = super().combine(estimates, latents, progress)\n"
        "        noise[1:] = torch.nan\n"
        "        return noise\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        arguments = ["--trust", "sabotage", "--model.combiner=SecondIsNaN"]
        arguments += ["--model.combiner.init_args.t={visual: 1.0, audio: 1.0}"]
        assert predict(config, *arguments) == 1
    finally:
        sys.path.remove(str(tmp_path))
        registry._classes.pop("SecondIsNaN", None)
    printed = capsys.readouterr()
    assert re.search(r"its: failed: data.prompts, row 1, seed 2 \([\w-]+\): not finite: the latents", printed.err)
    assert "1 of 2 images that sound" in printed.out
    records = [json.loads((folder / "sample.json").read_text()) for folder in samples(config)]
    assert [r["status"] for r in records] == ["ok", "failed"]


PLUGINS = """
import torch, os, signal
from its import register
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.combiners.warm_start_average import WarmStartAverage


@register
class Overflowing(StableDiffusion):
    "Gives infinities in half precision."

    def predict_noise(self, latents, timestep, text):
        noise = super().predict_noise(latents, timestep, text)
        return noise if self.unet.dtype == torch.float32 else noise * torch.inf


@register
class Interrupted(WarmStartAverage):
    "Ctrl-C in the second batch."

    batches = 0

    def combine(self, estimates, latents, progress):
        self.batches += progress == 0
        if self.batches == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return super().combine(estimates, latents, progress)
"""


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    (tmp_path / "odd_plugins.py").write_text(PLUGINS)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield ["--trust", "odd_plugins", "--model.combiner.init_args.t={visual: 1.0, audio: 1.0}", "--model.steps=2"]
    sys.modules.pop("odd_plugins", None)
    for name in ("Overflowing", "Interrupted"):
        registry._classes.pop(name, None)


def test_a_row_that_overflows_in_half_precision_is_made_in_float32(config, plugins, tiny):
    choice = ["--model.experts.visual=Overflowing", f"--model.experts.visual.init_args.weights={tiny / 'sd'}"]
    assert predict(config, *plugins, *choice, "--trainer.precision=bf16-true") == 0
    for folder in samples(config):
        assert json.loads((folder / "sample.json").read_text())["settings"]["precision"] == "32-true"


def test_after_ctrl_c_finished_samples_are_kept_and_the_others_reported(config, plugins, tmp_path, capsys):
    import signal

    handler = signal.getsignal(signal.SIGINT)
    try:
        assert predict(config, *plugins, "--model.combiner=Interrupted", "--data.batch_size=1") == 130
    finally:
        signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored
    printed = capsys.readouterr()
    assert "interrupted; the same command resumes the run" in printed.err
    assert re.search(r"its: failed: data.prompts, row 1, seed 2 \([\w-]+\): the sample was not written", printed.err)
    assert "1 of 2 images that sound" in printed.out


def test_a_disk_that_is_full_stops_the_run_and_damages_nothing(config, monkeypatch, capsys):
    write = Path.write_bytes

    def full(self, content):
        if "ringing-2-" in str(self) and "audio.wav" in self.name:
            raise OSError(28, "No space left on device")
        write(self, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    assert predict(config, "--data.batch_size=1") == 1
    printed = capsys.readouterr()
    assert re.search(r"its: stopped: .*ringing-2-\S+/audio.wav can't be written: No space left on device", printed.err)
    assert "1 of 2 images that sound" in printed.out
    monkeypatch.setattr(Path, "write_bytes", write)
    assert predict(config) == 0


MIXED = ["--trainer.plugins.precision=bf16-mixed", "--trainer.plugins.device=cpu"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model.stepz", "4"], r"command line: model.stepz: MultimodalDenoising has no argument stepz"),
        (["--model.steps", "2000"], r"steps: DDIM: steps (=2000)"),
        (["--data.guidance_scale.visual", "nan"], r"nan"),
        (["--output", ""], r"output"),
        (["--model.steps", "many"], r"command line: model.steps: got many; expected int"),
        (
            ["--model.vocoder", "HifiGan"],
            r"command line: model.vocoder: unknown class 'HifiGan'; registered for Vocoder: HiFiGAN, GriffinLim",
        ),
        (["--model.scheduler", "GriffinLim"], r"GriffinLim is a Vocoder."),
        (["--model.canvas", "[64, 100]"], r"multiples of 8"),
        (["--model.canvas", "[64, 10000000]"], r"model.canvas is [64, 10000000]; expected 1 to 16777216 pixels"),
        (["--model.canvas", "[128, 128]"], r"the vocoder HiFiGAN expects 64 mel bands"),
        (["--model.experts.audio", "null"], r"WarmStartAverage contains audio"),
        (["--model.combiner.init_args.t.visual", "1.5"], r"1.5"),
        (["--model.scheduler.init_args.spacin", "x"], r"spacin"),
        (["--data.prompts", "nowhere.csv"], r"nowhere.csv: the prompt file can't be read"),
        (["--data.seeds", "[]"], r"seeds are empty"),
        (["--data.batch_size", "0"], r"data.batch_size is 0"),
        (["--data.guidance_scale.visuel", "2"], r"unknown expert visuel"),
        (["--save", "[movie]"], r"command line: save.0: got movie; expected one of 'image', 'latents', 'color'"),
        (["--save", "[color]"], r"save contains color, but model.colorizer is null"),
        (["--trainer.precision", "8"], r"trainer.precision: got 8; expected one of"),
        (["--trainer.accelerator", "abacus"], r"abacus"),
        (["--trainer.devices", "4096"], r"trainer.devices is 4096, but no GPU is used"),
        (["--trainer.strategy", "fsdp"], r"trainer.strategy is fsdp; expected auto, ddp, single_device: each process"),
        (["--trainer.strategy", "ddp_spawn"], r"trainer.strategy is ddp_spawn; expected auto"),
        (["--trainer.strategy", "deepspeed"], r"trainer.strategy is deepspeed; expected auto"),
        (
            ["--trainer.precision", "16-mixed"],
            r"trainer.precision is 16-mixed, which CPUs do not support; expected one of 32-true",
        ),
        (
            ["--trainer.precision", "bf16-true", "--trainer.plugins", "MixedPrecision", *MIXED],
            r"trainer.precision is bf16-true, and trainer.plugins sets another by MixedPrecision: leave one out",
        ),
        (
            ["--model.experts.visual.init_args.weights", "nobody/nowhere"],
            r"model.experts.visual: nobody/nowhere is not on this machine",
        ),
        (
            ["--model.experts.visual.init_args.weights", "/nowhere", "--model.fallback", "mini"],
            r"model.experts.visual: weights: /nowhere is neither a folder",
        ),
        (["--output", "/proc/nowhere"], "output is /proc/nowhere, which can't be written to"),
    ],
)
def test_wrong_input_is_one_message_and_status_2(config, arguments, message, capsys):
    assert predict(config, *arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2
    assert not (config.parent / "run").exists()


def test_all_faults_of_a_config_are_reported_together(config, tmp_path, capsys):
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("{model: {stepz: 3, vocoder: HiFiGun, combiner: {init_args: {t: {visual: soon}}}}, outptu: x}")
    assert predict(config, "--config", overlay, "--data.batch_size=0", "--trainer.devices={}") == 2
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()[1:]]
    places = {line.partition(": ")[0]: line.partition(": ")[2].split()[0].rstrip(":") for line in lines}
    assert len(lines) == 6
    named = {line.split(": ")[1].split(" ")[0] for line in lines}
    overlaid = {"model.stepz", "model.vocoder", "model.combiner.init_args.t.visual", "outptu"}
    assert named == overlaid | {"data.batch_size", "trainer.devices"}
    assert places.keys() == {str(overlay), "command line"}
    assert not (tmp_path / "run").exists()


def test_without_a_config_one_is_named(capsys):
    assert main(["predict"]) == 2
    assert "--config castle_bell" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--help"], ["--model.steps", "--data.prompts", "--trainer.devices", "--save", "--keep"]),
        (["--method", "Imprint", "--help"], ["--model.rho"]),
        (["--model.vocoder.help", "HiFiGAN"], ["subfolder"]),
    ],
)
def test_help_describes_the_keys(arguments, shown, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["predict", *arguments])
    out = capsys.readouterr().out
    assert [key for key in shown if key not in out] == []


def test_the_printed_config_is_the_one_that_is_run(config, capsys):
    with pytest.raises(SystemExit, match="0"):
        predict(config, "--model.steps=2", "--print_config")
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["steps"] == 2
    assert predict(config, "--model.steps=2") == 0
    assert yaml.safe_load((samples(config)[0].parents[1] / "its_config.yaml").read_text()) == printed


LAUNCH = (
    "{class_path: torch.distributed.launcher.api.elastic_launch, init_args: {entrypoint: ./run.sh, config: {"
    "min_nodes: 1, max_nodes: 1, nproc_per_node: 1, run_id: x, rdzv_backend: static, rdzv_endpoint: '127.0.0.1:29611', "
    "rdzv_configs: {rank: 0}, max_restarts: 0}}}"
)
CALLBACK = f"{{class_path: lightning.pytorch.callbacks.LambdaCallback, init_args: {{on_predict_start: {LAUNCH}}}}}"
WANDB = "{class_path: WandbLogger, init_args: {offline: true,"
TRAPS = [
    "data: {prompts: [{visual: {class_path: trap.Trap}, audio: x}]}",
    "data: {prompts: [{visual: {class_path: torch.utils.cpp_extension.subprocess.Popen, "
    "init_args: {args: 'touch trapped', shell: true}}, audio: x}]}",
    "data: {sweep: {steps: [{class_path: trap.Trap}]}}",
    f"trainer: {{callbacks: [{CALLBACK}]}}",
    f"trainer: {{callbacks: {CALLBACK}}}",
    f"trainer: {{callbacks: [{LAUNCH}]}}",
    f"trainer: {{strategy: {{class_path: DDPStrategy, init_args: {{ddp_comm_hook: {LAUNCH}}}}}}}",
    f"trainer: {{profiler: {{class_path: PyTorchProfiler, init_args: {{on_trace_ready: {LAUNCH}}}}}}}",
    f"model: {{scheduler: {LAUNCH}}}",
    f"scorers: [{LAUNCH}]",
    "trainer: {strategy: {class_path: lightning.pytorch.strategies.SingleDeviceStrategy, init_args: {checkpoint_io: "
    "trap.X, device: cpu}}}",
    f"trainer: {{logger: {WANDB} settings: {{base_url: 'http://127.0.0.1:1'}}}}}}}}",
    f"trainer: {{logger: [true, {WANDB} entity: somebody}}}}]}}",
    f"trainer: {{logger: {WANDB} save_dir: trapped}}}}}}",
    "trainer: {logger: {class_path: CSVLogger, init_args: {save_dir: trapped, name: x, version: y}}}",
    "trainer: {logger: {class_path: CSVLogger, init_args: {save_dir: 'ftp://127.0.0.1:1/trapped'}}}",
    "trainer: {default_root_dir: trapped, logger: true}",
    "trainer: {plugins: {class_path: MixedPrecision, init_args: {precision: bf16-mixed, device: cpu, scaler: trap.X}}}",
    "trainer: {profiler: {class_path: SimpleProfiler, init_args: {dirpath: trapped, filename: x}}}",
    "output: trapped/../../trapped",
    "model: {experts: {a-b: trap.X}}",
    'trainer: {"callbacks+": trap.X}',
    "model: part.txt",
    "trainer: part.txt",
    "config: part.txt",
    "model: {scheduler: {class_path: torch.hub.load}}",
]


@pytest.mark.parametrize("trap", TRAPS)
def test_no_config_runs_untrusted_code(config, tmp_path, trap, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    Path("trap.py").write_text("open('trapped', 'w').close()\nf = X = Trap = print\n")
    Path("part.txt").write_text("{callbacks: [{class_path: trap.X}], scheduler: {class_path: trap.X}}")
    Path("run.sh").write_text("#!/bin/sh\ntouch trapped\n")
    Path("run.sh").chmod(0o700)
    Path("overlay.yaml").write_text(trap)
    assert predict(config, "--config=overlay.yaml") == 2
    assert "trap" not in sys.modules
    assert not Path("trapped").exists()
    assert "Traceback" not in (err := capsys.readouterr().err)
    assert "--trust torch" not in err
    assert "--trust lightning" not in err


def test_what_the_trainer_writes_by_itself_is_in_the_run_directory(config, tmp_path):
    (tmp_path / "overlay.yaml").write_text("trainer: {logger: true, profiler: advanced}")
    assert predict(config, "--config", str(tmp_path / "overlay.yaml")) == 0
    assert (tmp_path / "run/lightning_logs").is_dir()
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", "overlay.yaml", "run"}


@pytest.mark.parametrize("key", ["model", "model.vocoder", "model.experts", "trainer", "trainer.callbacks", "data"])
@pytest.mark.parametrize("name", ["evil.yaml", "evil.txt"])
def test_no_file_on_the_command_line_imports_code(config, tmp_path, key, name):
    (tmp_path / "trap.py").write_text("raise SystemExit('imported')\n")
    sys.path.insert(0, str(tmp_path))
    (tmp_path / name).write_text("{class_path: trap.Trap, x: [{class_path: trap.Trap}]}")
    try:
        assert predict(config, f"--{key}={tmp_path / name}") == 2
    finally:
        sys.path.remove(str(tmp_path))
    assert "trap" not in sys.modules


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"no"), "model.experts.visual: "),
        (lambda f: (f / "unet" / "config.json").write_text("{"), "model.experts.visual: "),
        (lambda f: (f / "vae" / "config.json").write_text("{"), "vae"),
        (lambda f: (f / "text_encoder" / "model.safetensors").unlink(), "lacks text_encoder/model.safetensors"),
        (
            lambda f: (f / "vocoder" / "vocoder.pt").write_bytes(b""),
            "vocoder.pt is damaged, or contains other objects than tensors",
        ),
        (lambda f: (f / "vocoder" / "config.json").write_text("{}"), "config.json lacks resblock"),
    ],
)
def test_damaged_weights_are_one_message(config, tiny, tmp_path, damage, message, capsys):
    folder = tmp_path / "weights"
    shutil.copytree(tiny / "auffusion", folder)
    damage(folder)
    arguments = [f"--model.experts.visual.init_args.weights={folder}", f"--model.vocoder.init_args.weights={folder}"]
    assert predict(config, *arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_another_config_in_the_same_folder_is_refused_with_the_keys_that_differ(config, capsys, tmp_path):
    assert predict(config) == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    capsys.readouterr()
    changes = ["--model.steps=2", "--data.guidance_scale.audio=3", "--data.batch_size=1", "--trainer.precision=32"]
    assert predict(config, *changes) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "run has 2 samples of another config: " in line
    assert "data.guidance_scale.audio is 7.5 there, 3.0 here; model.steps is 6 there, 2 here. Choose another" in line
    assert "--mixed true" in line
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def test_samples_of_other_settings_stay_where_both_are_wanted(config, capsys):
    assert predict(config) == 0
    capsys.readouterr()
    assert predict(config, "--model.steps=2", "--mixed=true") == 0
    assert "its: 2 samples of other specs or settings in" in capsys.readouterr().err
    assert len(samples(config)) == 4
    run = samples(config)[0].parents[1]
    configs = [yaml.safe_load((run / name).read_text()) for name in ("its_config.1.yaml", "its_config.yaml")]
    assert [content["model"]["steps"] for content in configs] == [6, 2]
    assert predict(config) == 0  # the first ones again: they are there, so this is their folder too


def test_more_seeds_prompts_and_points_are_no_other_config(config, tiny, tmp_path):
    assert predict(config, "--model.steps=1") == 0
    assert predict(config, "--model.steps=1", "--data.seeds=[7]", "--data.batch_size=1") == 0
    assert predict(config, "--model.steps=1", "--data.sweep={guidance_scale.audio: [7.5, 2.0]}") == 0
    shutil.copytree(tiny, moved := tmp_path / "moved")  # the same weights from another place
    places = [f"--model.experts.visual.init_args.weights={moved / 'sd'}", "--data.seeds=[1,2,3]"]
    assert predict(config, "--model.steps=1", *places) == 0
    assert len(samples(config)) == 6


def test_a_failed_row_is_made_again_on_request_alone(config, monkeypatch, capsys):
    from its.methods.base import Method

    make = Method.predict_step

    def spoiled(self, batch, batch_idx=0):
        return [
            replace(made, result=None, error="spoiled") if made.spec.seed == 2 else made
            for made in make(self, batch, batch_idx)
        ]

    monkeypatch.setattr(Method, "predict_step", spoiled)
    assert predict(config, "--model.steps=1") == 1
    assert "1 failed: retry them with --retry_failed true" in capsys.readouterr().out.splitlines()[-1]
    monkeypatch.setattr(Method, "predict_step", make)
    assert predict(config, "--model.steps=1") == 1
    printed = capsys.readouterr()
    assert re.search(r"its: failed: data.prompts, row 1, seed 2 \([\w-]+\): spoiled", printed.err)
    assert "1 of 2 images that sound" in printed.out
    assert predict(config, "--model.steps=1", "--retry_failed=true") == 0
    assert "2 of 2 images that sound" in capsys.readouterr().out
    saved = (samples(config)[0].parent.parent / "its_config.yaml").read_text()
    assert "retry_failed" not in saved


def test_a_folder_made_read_only_stops_the_run_and_damages_nothing(config, monkeypatch, capsys):
    make = Path.mkdir

    def read_only(self, *rest, **options):
        if "ringing-2-" in str(self):
            raise PermissionError(13, "Permission denied", str(self))
        make(self, *rest, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", read_only)
        assert predict(config, "--data.batch_size=1", "--model.steps=1") == 1
    printed = capsys.readouterr()
    assert re.search(r"its: stopped: .*ringing-2-\S+ can't be written: Permission denied", printed.err)
    assert printed.out.splitlines()[-1].endswith("1 are missing: run the same command again")
    assert predict(config, "--model.steps=1") == 0


def test_print_config_shows_the_composed_config(config, capsys):
    with pytest.raises(SystemExit) as stop:
        predict(config, "--model.steps=7", "--print_config")
    assert stop.value.code == 0
    assert yaml.safe_load(capsys.readouterr().out)["model"]["steps"] == 7


@pytest.fixture
def pack(tiny, tmp_path):
    """A pack of tiny weights, in the layout of the embedded one."""
    folder = tmp_path / "pack"
    shutil.copytree(tiny / "sd", folder)
    shutil.copytree(tiny / "auffusion" / "unet", folder / "unet_audio")
    overlay = folder / "model.yaml"
    overlay.write_text(
        """
        model:
          experts:
            visual: {class_path: StableDiffusion, init_args: {weights: "pack:tiny"}}
            audio: {class_path: Auffusion, init_args: {weights: "pack:tiny", unet_folder: unet_audio}}
          vocoder: {class_path: GriffinLim, init_args: {format: {n_mels: 64}, iterations: 1}}
          steps: 3
        data: {guidance_scale: {visual: 2.0, audio: 3.0}}
        """
    )
    registry.register_pack(registry.Pack(name="tiny", folder=folder, config=overlay, summary="for tests"))
    yield "tiny"
    registry._packs.pop("tiny")


def test_the_fallback_takes_the_whole_pack_and_says_so(config, pack, capsys):
    arguments = ["--model.experts.visual.init_args.weights", "nobody/nowhere", f"--model.fallback={pack}"]
    assert predict(config, *arguments) == 0
    (warned,) = [line for line in capsys.readouterr().err.splitlines() if "WARNING" in line]
    for part in (
        "model.experts.visual: nobody/nowhere",
        "tiny: for tests",
        "3 steps",
        "visual 2",
        "model.fallback to null",
    ):
        assert part in warned
    assert "use a local folder" in warned  # what helps
    record = json.loads((samples(config)[0] / "sample.json").read_text())
    assert all(weights["embedded"] for weights in record["weights"].values())
    assert set(record["weights"]) == {"experts.visual", "experts.audio", "codec"}  # one codec: the tensors are the same
    assert "nobody/nowhere" in record["fallback"]
    assert record["settings"]["steps"] == 3
    assert record["settings"]["guidance_scale"] == {"visual": 2.0, "audio": 3.0}


def test_the_command_line_beats_the_packs_settings(config, pack):
    content = yaml.safe_load(config.read_text())
    content["model"]["experts"]["audio"]["init_args"]["weights"] = "nobody/nowhere"
    content["model"]["fallback"] = pack
    config.write_text(yaml.safe_dump(content))
    assert predict(config, "--model.steps=2", "--data.guidance_scale.visual=5") == 0
    settings = json.loads((samples(config)[0] / "sample.json").read_text())["settings"]
    assert settings["steps"] == 2
    assert settings["guidance_scale"] == {"visual": 5.0, "audio": 3.0}


@pytest.mark.parametrize(
    "missing",
    [
        ["vocoder"],
        ["experts.visual", "vocoder"],
        ["experts.visual", "experts.audio", "vocoder"],
    ],
)
@pytest.mark.parametrize("where", ["file", "command line"])
def test_the_fallback_takes_the_place_of_whatever_is_missing(config, pack, missing, where):
    content = yaml.safe_load(config.read_text())
    arguments = []
    for key in missing:
        if where == "command line":
            arguments += [f"--model.{key}.init_args.weights", "nobody/nowhere", f"--model.{key}.init_args.revision=v1"]
            continue
        part = content["model"]
        for name in key.split("."):
            part = part[name]
        part["init_args"].update(weights="nobody/nowhere", revision="v1")
    content["model"]["codec"] = {"class_path": "AutoencoderKLCodec", "init_args": {"weights": "nobody/nowhere"}}
    config.write_text(yaml.safe_dump(content))
    assert predict(config, *arguments, f"--model.fallback={pack}") == 0
    record = json.loads((samples(config)[0] / "sample.json").read_text())
    assert all(weights["embedded"] for weights in record["weights"].values())
    assert record["settings"]["vocoder"]["class"] == "GriffinLim"


def test_a_vocoder_of_the_users_choice_stays_under_the_fallback(config, pack):
    arguments = ["--model.vocoder=GriffinLim", "--model.vocoder.init_args={format: {n_mels: 64}, iterations: 3}"]
    arguments += ["--model.experts.visual.init_args.weights=nobody/nowhere", f"--model.fallback={pack}"]
    assert predict(config, *arguments) == 0
    vocoder = json.loads((samples(config)[0] / "sample.json").read_text())["settings"]["vocoder"]
    assert vocoder["iterations"] == 3


def test_a_config_of_one_expert_falls_back_to_that_of_the_pack(config, pack):
    content = yaml.safe_load(config.read_text())
    content["model"]["experts"] = {"audio": {"class_path": "Auffusion", "init_args": {"weights": "nobody/nowhere"}}}
    content["model"]["combiner"]["init_args"]["t"] = {"audio": 1.0}
    content["data"].update(prompts=[{"audio": "bell ringing"}], guidance_scale={"audio": 5.0})
    content["model"]["fallback"] = pack
    config.write_text(yaml.safe_dump(content))
    assert predict(config) == 0
    record = json.loads((samples(config)[0] / "sample.json").read_text())
    assert list(record["settings"]["experts"]) == ["audio"]


def test_an_expert_more_is_the_packs_of_its_class(config, pack):
    content = yaml.safe_load(config.read_text())
    content["model"]["experts"]["extra"] = {"class_path": "StableDiffusion", "init_args": {"weights": "nobody/nowhere"}}
    content["model"]["combiner"]["init_args"]["t"]["extra"] = 1.0
    content["data"]["prompts"][0]["extra"] = "dog"
    content["model"]["fallback"] = pack
    config.write_text(yaml.safe_dump(content))
    assert predict(config) == 0
    record = json.loads((samples(config)[0] / "sample.json").read_text())
    assert record["weights"]["experts.extra"] == record["weights"]["experts.visual"]
    assert record["settings"]["guidance_scale"] == {"visual": 2.0, "audio": 3.0, "extra": 2.0}


def test_experts_without_equivalent_in_the_pack_are_named(config, pack, capsys):
    content = yaml.safe_load(config.read_text())
    path = "its_plugins.experts.auffusion.Auffusion"
    content["model"]["experts"] = {"smell": {"class_path": path, "init_args": {"weights": "nobody/nowhere"}}}
    content["model"]["combiner"]["init_args"]["t"] = {"smell": 1.0}
    content["data"].update(prompts=[{"smell": "roses"}], guidance_scale={})
    content["model"]["fallback"] = pack
    config.write_text(yaml.safe_dump(content))
    assert predict(config) == 0  # by its class, however it is written
    overlay = Path(registry.packs()[pack].config)
    without_sound = yaml.safe_load(overlay.read_text())
    del without_sound["model"]["experts"]["audio"]
    overlay.write_text(yaml.safe_dump(without_sound))
    assert predict(config) == 2
    message = capsys.readouterr().err
    assert "expert smell (Auffusion)" in message
    assert "visual (StableDiffusion)" in message


def test_a_mask_that_does_not_fit_the_canvas_is_one_message(config, tmp_path, capsys):
    from PIL import Image

    Image.new("L", (512, 512)).save(tmp_path / "mask.png")
    regions = f"{{masks: {{visual: {tmp_path / 'mask.png'}, audio: 1.0}}}}"
    assert predict(config, "--model.combiner=Regions", f"--model.combiner.init_args={regions}") == 2
    message = capsys.readouterr().err
    assert "model.combiner: Regions: mask of visual: " in message
    assert "has 512 rows and 512 columns; expected the proportions of the canvas [64, 128]" in message
    assert "Traceback" not in message


def test_an_unknown_fallback_is_refused(config, capsys):
    assert predict(config, "--model.experts.visual.init_args.weights=nobody/nowhere", "--model.fallback=mini2") == 2
    assert "model.fallback is 'mini2'; expected a pack: mini" in capsys.readouterr().err


def test_the_fallback_is_not_taken_where_all_weights_are_there(config, pack, capsys):
    assert predict(config, f"--model.fallback={pack}") == 0
    assert "NOT THE WEIGHTS" not in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_accelerator_is_one_message(config, capsys):
    assert predict(config, "--trainer.accelerator=gpu", "--trainer.devices=4") == 2
    assert "trainer.accelerator is gpu, but torch" in (err := capsys.readouterr().err)
    assert "finds no GPU on this machine. Leave it out, or use cpu" in err


@pytest.mark.parametrize(
    ("devices", "wrong"),
    [
        (4, True),
        ("4", True),
        ("0,3", True),
        ([0, 2], True),
        ([0, 1], False),
        (2, False),
        ("auto", False),
        ("-1", False),
    ],
)
def test_more_gpus_than_there_are(monkeypatch, devices, wrong):
    from its.engine.trainer import check_trainer
    from its.errors import UserError

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    if not wrong:
        return check_trainer({"accelerator": "gpu", "devices": devices})
    with pytest.raises(UserError, match=r"trainer.devices is .*, but this machine has 2 GPUs"):
        check_trainer({"accelerator": "gpu", "devices": devices})


def test_no_page_where_none_is_wanted(config, tmp_path):
    assert predict(config, "--gallery=false") == 0
    assert not (tmp_path / "run" / "index.html").exists()
    assert predict(config) == 0
    assert (tmp_path / "run" / "index.html").is_file()
