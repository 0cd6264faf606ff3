"""`its doctor`, on machines that have one thing wrong."""

import os
import re
import shutil
from pathlib import Path

import pytest
import yaml
from huggingface_hub import constants
from loopback_hub import Hub

from its import registry
from its.cli import main
from its.engine import diagnostics
from its.engine.components import components
from its.engine.diagnostics import GIB
from its.weights import hub as hub_of_its
from its_plugins.scorers.clip_scorer import CLIPScorer


def found(check):
    return [(finding.level, f"{finding.what}: {finding.remedy}") for finding in check]


@pytest.fixture
def installed(monkeypatch):
    """Versions that only this test sees."""
    other = {}
    real = diagnostics.version
    monkeypatch.setattr(diagnostics, "version", lambda name: other.get(name) or real(name))
    return other


def test_this_installation(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["doctor", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "ok    torch 2.11" in out
    assert "note  no downloads: HF_HUB_OFFLINE is set: use weights on this machine" in out
    assert re.search(r"^note  weights stable-diffusion-v1-5/stable-diffusion-v1-5 \(StableDiffusion", out, re.M)
    assert "CPU cores" in out
    assert out.endswith("no faults found\n")


def test_status_1_when_something_is_wrong(installed, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    installed["jsonargparse"] = "5.0.0"
    assert main(["doctor", "--output", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert 'WRONG jsonargparse is 5.0.0, expected <5,>=4.53: pip install "jsonargparse<5,>=4.53"' in out
    assert out.endswith("1 fault found\n")


@pytest.mark.parametrize(
    ("package", "number", "message"),
    [
        ("lightning", "2.6.2", "lightning is 2.6.2, expected <2.7,>=2.6.4"),
        ("torch", "2.13.0+cpu", "torch 2.13.0+cpu and torchaudio 2.11.0"),
        ("torchaudio", "2.10.0", "are incompatible: install both at once"),
        ("torch", "2.15.0", "torch is 2.15.0, expected <2.12,>=2.11"),
    ],
)
def test_versions_that_do_not_fit(installed, package, number, message):
    installed[package] = number
    wrong = [text for level, text in found(diagnostics.versions()) if level == "wrong"]
    assert any(message in text for text in wrong)


def test_builds_of_one_release_for_other_machines(installed):
    installed.update(torch="2.11.0+cpu", torchaudio="2.11.0+cu130")
    assert [level for level, _ in found(diagnostics._check_torch_builds())] == ["wrong"]


def test_a_full_disk(monkeypatch, tmp_path):
    class Usage:
        free = 0.1 * GIB

    monkeypatch.setattr(diagnostics.shutil, "disk_usage", lambda path: Usage)
    assert [level for level, _ in found(diagnostics.disk(tmp_path / "not/yet"))] == ["wrong", "wrong"]


def test_a_login_is_found_and_never_shown(monkeypatch, tmp_path):
    key = "0123456789abcdef0123456789abcdef01234567"
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert "no login for api.wandb.ai" in found(diagnostics.wandb_login())[0][1]
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {key}\n")
    (tmp_path / "netrc").chmod(0o600)
    ((level, text),) = found(diagnostics.wandb_login())
    assert (level, "netrc" in text, key in text) == ("ok", True, False)
    monkeypatch.setenv("WANDB_API_KEY", key)
    ((level, text),) = found(diagnostics.wandb_login())
    assert (level, "WANDB_API_KEY" in text, key in text) == ("ok", True, False)
    (tmp_path / "netrc").write_text("machine\n  api")
    assert len(found(diagnostics.wandb_login())) == 1


@pytest.fixture
def sample_config(tmp_path):
    """Writes a config of experts with these weights."""

    def write(*weights):
        config = tmp_path / "c.yaml"
        experts = {
            str(n): {"class_path": "StableDiffusion", "init_args": {"weights": w}} for n, w in enumerate(weights)
        }
        config.write_text(yaml.safe_dump({"model": {"experts": experts}}))
        return config

    return write


def test_weights_of_a_config(tmp_path, tiny, monkeypatch, sample_config):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    damaged = shutil.copytree(tiny / "sd", tmp_path / "damaged")
    (damaged / "unet" / "config.json").write_text("{")
    config = sample_config(
        str(tiny / "sd"),
        "nobody/no-such-weights",
        "pack:mini",
        "/no/such/folder",
        str(tmp_path / "empty"),
        str(damaged),
    )
    by_level = found(diagnostics.weights([config]))
    assert [level for level, _ in by_level] == ["ok", "note", "ok", "wrong", "note", "wrong"]
    assert f"weights {tiny / 'sd'} (StableDiffusion, AutoencoderKLCodec): on this machine" in by_level[0][1]
    assert "nobody/no-such-weights is not on this machine" in by_level[1][1]
    assert "/no/such/folder is neither a folder nor a file" in by_level[3][1]
    assert f"{tmp_path / 'empty'} lacks unet/config.json" in by_level[4][1]
    assert "unet/config.json is not JSON" in by_level[5][1]


def test_weights_to_download_are_logged_with_their_size(tiny, tmp_path, monkeypatch, sample_config):
    with Hub() as hub:
        hub.connect(monkeypatch, tmp_path / "cache")
        monkeypatch.setattr(hub_of_its, "_unreachable", {})
        hub_of_its._listing.cache_clear()
        hub.add("someone/model", tiny / "sd")
        hub.add("someone/gated", tiny / "sd", gated=True)
        config = sample_config("someone/model", "someone/gated", "nobody/nothing")
        by_level = found(diagnostics.weights([config]))
        assert not [name for _, name in hub.served if name.endswith(".safetensors")]
    hub_of_its._listing.cache_clear()
    assert [level for level, _ in by_level] == ["note", "note", "note", "ok"]
    assert re.search(r"someone/model .*: 1\.\d+ MB to download", by_level[0][1])
    assert re.search(r"someone/gated is gated: Accept its licence .*HF_TOKEN", by_level[1][1])
    assert re.search(r"has no such repository: Check the name", by_level[2][1])
    assert re.search(r"1\.\d+ MB to download in all", by_level[3][1])
    monkeypatch.setattr(diagnostics.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(1, 1, 0))
    with Hub() as hub:
        hub.connect(monkeypatch, tmp_path / "cache")
        hub.add("someone/model", tiny / "sd")
        level, text = found(diagnostics.weights([sample_config("someone/model")]))[-1]
    hub_of_its._listing.cache_clear()
    assert level == "wrong"
    assert "free some space" in text


def test_scorers_that_a_config_only_names(tmp_path):
    (tmp_path / "a.yaml").write_text("scorers: [CLIPScorer, MiniSoundJudge]")
    assert list(components([tmp_path / "a.yaml"])) == [CLIPScorer().weights, "pack:mini"]


def test_all_components_with_weights_are_looked_at_without_a_config():
    kinds = {type(part).__name__ for parts in components([]).values() for part in parts}
    assert kinds >= {"StableDiffusion", "Auffusion", "Riffusion", "HiFiGAN", "AutoencoderKLCodec", "CLIPScorer",
                     "CLAPScorer", "DeepFloydIF", "DeepFloydIFUpscaler"}  # fmt: skip


def test_a_plugin_that_failed(monkeypatch):
    monkeypatch.setattr(registry, "failures", lambda: {"x (x.y)": "ImportError: no z"})
    assert found(diagnostics.plugins()) == [
        ("wrong", "plugin x (x.y) failed: ImportError: no z: fix or uninstall it; `its plugins` lists the others")
    ]


def test_a_config_that_is_not_there(capsys, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert main(["doctor", "--config", str(Path("none.yaml"))]) == 2
    assert "none.yaml" in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_to_names_the_variable(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda path, mode: "cache" not in str(path))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (_, (level, text)) = found(diagnostics.disk(tmp_path / "runs"))
    assert level == "wrong"
    assert "set HF_HOME to a folder that can be written to" in text
