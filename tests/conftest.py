"""Tiny weights in the real layouts, made once for all tests."""

import gc
import logging
import os

# One thread for each process: tiny models gain nothing from more, and several processes would fight over the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Tests reach no hub but their own, which `Hub.connect` names.
os.environ["HF_HUB_OFFLINE"] = "1"

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from forked_commands import forks  # noqa: F401 - a fixture

from its import registry
from its.output import configure_logging
from its_plugins.random_weights.stable_diffusion import stable_diffusion
from its_plugins.vocoders.hifi_gan import write_random_checkpoint

registry.load_plugins()
configure_logging(logging.INFO)  # as commands do, so that tests read messages from standard error


def pytest_collection_finish() -> None:
    """Leave modules and test items out of later garbage collections, which took 5 % of the time."""
    gc.collect()
    gc.freeze()


VOCODER = {
    "resblock": "1",
    "upsample_rates": [5, 4, 4, 2],
    "upsample_kernel_sizes": [11, 8, 8, 4],
    "upsample_initial_channel": 32,
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]],
    "num_mels": 64,
    "sampling_rate": 16000,
    "n_fft": 2048,
    "hop_size": 160,
    "win_size": 1024,
    "fmin": 0,
    "fmax": 8000,
}


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `sd` and `auffusion` (with a 64-band vocoder), each in the layout of the real one."""
    folder = tmp_path_factory.mktemp("tiny")
    stable_diffusion(folder / "sd", seed=0)
    stable_diffusion(folder / "auffusion", seed=1)
    write_random_checkpoint(folder / "auffusion" / "vocoder", VOCODER)
    return folder


@pytest.fixture(scope="session")
def write_config(tiny: Path) -> Callable[[Path], Path]:
    """A function that writes a config of `its predict` on these weights into a folder. The run directory is `run`.

    A canvas of 64 x 128, 6 steps, two seeds.
    """

    def write(folder: Path) -> Path:
        content = {
            "model": {
                "experts": {
                    "visual": {"class_path": "StableDiffusion", "init_args": {"weights": str(tiny / "sd")}},
                    "audio": {"class_path": "Auffusion", "init_args": {"weights": str(tiny / "auffusion")}},
                },
                "combiner": {"class_path": "WarmStartAverage", "init_args": {"t": {"visual": 0.5, "audio": 1.0}}},
                "scheduler": {"class_path": "DDIM"},
                "vocoder": {"class_path": "HiFiGAN", "init_args": {"weights": str(tiny / "auffusion")}},
                "steps": 6,
                "canvas": [64, 128],
            },
            "data": {
                "prompts": [{"visual": "castle towers", "audio": "bell ringing"}],
                "seeds": [1, 2],
                "guidance_scale": {"visual": 10.0, "audio": 7.5},
                "batch_size": 2,
            },
            "trainer": {"accelerator": "cpu"},
            "output": "run",
        }
        path = folder / "config.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


@pytest.fixture
def config(write_config: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A config of `write_config` in the test's folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return write_config(tmp_path)
