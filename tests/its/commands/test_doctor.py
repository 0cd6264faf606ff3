"""`its doctor`, on machines that have one thing wrong."""

from pathlib import Path

import pytest

from its import registry
from its.cli import main
from its.commands import checkup
from its.commands.checkup import GIB


def found(check):
    return [(finding.level, f"{finding.what}: {finding.remedy}") for finding in check]


@pytest.fixture
def installed(monkeypatch):
    """Versions that only this test sees."""
    other = {}
    real = checkup.version
    monkeypatch.setattr(checkup, "version", lambda name: other.get(name) or real(name))
    return other


def test_this_installation(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("its.weights.hub_trouble", lambda: "the test says so")
    assert main(["doctor", "--output", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "ok    torch 2.11" in out
    assert "note  no downloads: the test says so" in out
    assert "CPU cores" in out
    assert out.endswith("its: all is well\n")


def test_status_1_when_something_is_wrong(installed, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("its.weights.hub_trouble", lambda: None)
    installed["jsonargparse"] = "5.0.0"
    assert main(["doctor", "--output", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert 'WRONG jsonargparse is 5.0.0, expected <5,>=4.53: pip install "jsonargparse<5,>=4.53"' in out
    assert out.endswith("its: 1 things are wrong\n")


@pytest.mark.parametrize(
    ("package", "number", "message"),
    [
        ("lightning", "2.6.2", "lightning is 2.6.2, expected <2.7,>=2.6.4"),
        ("torch", "2.13.0+cpu", "torch 2.13.0+cpu and torchaudio 2.11.0"),
        ("torchaudio", "2.10.0", "don't fit each other: install both at once"),
        ("torch", "2.15.0", "torch is 2.15.0, expected <2.12,>=2.11"),
    ],
)
def test_versions_that_do_not_fit(installed, package, number, message):
    installed[package] = number
    wrong = [text for level, text in found(checkup.versions()) if level == "wrong"]
    assert any(message in text for text in wrong)


def test_builds_of_one_release_for_other_machines(installed):
    installed.update(torch="2.11.0+cpu", torchaudio="2.11.0+cu130")
    assert [level for level, _ in found(checkup._pair())] == ["wrong"]


def test_a_full_disk(monkeypatch, tmp_path):
    class Usage:
        free = 0.1 * GIB

    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda path: Usage)
    assert [level for level, _ in found(checkup.disk(tmp_path / "not/yet"))] == ["wrong", "wrong"]


def test_a_login_is_found_and_never_shown(monkeypatch, tmp_path):
    key = "0123456789abcdef0123456789abcdef01234567"
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert "no login for api.wandb.ai" in found(checkup.wandb_login())[0][1]
    (tmp_path / "netrc").write_text(f"machine api.wandb.ai\n  login user\n  password {key}\n")
    (tmp_path / "netrc").chmod(0o600)
    ((level, text),) = found(checkup.wandb_login())
    assert (level, "netrc" in text, key in text) == ("ok", True, False)
    monkeypatch.setenv("WANDB_API_KEY", key)
    ((level, text),) = found(checkup.wandb_login())
    assert (level, "WANDB_API_KEY" in text, key in text) == ("ok", True, False)
    (tmp_path / "netrc").write_text("machine\n  api")
    assert len(found(checkup.wandb_login())) == 1


def test_weights_of_a_config(tmp_path):
    (tmp_path / "there").mkdir()
    config = tmp_path / "c.yaml"
    config.write_text(
        "model:\n  experts:\n"
        f"    a: {{class_path: StableDiffusion, init_args: {{weights: {tmp_path / 'there'}}}}}\n"
        "    b: {class_path: StableDiffusion, init_args: {weights: nobody/no-such-weights}}\n"
        "    c: {class_path: StableDiffusion, init_args: {weights: 'pack:mini'}}\n"
        "    d: {class_path: StableDiffusion, init_args: {weights: /no/such/folder/here}}\n"
    )
    by_level = found(checkup.weights([config]))
    assert [level for level, _ in by_level] == ["ok", "note", "ok", "note"]
    assert "`hf download nobody/no-such-weights`" in by_level[1][1]
    assert "give the path of the folder" in by_level[3][1]


def test_a_plugin_that_failed(monkeypatch):
    monkeypatch.setattr(registry, "failures", lambda: {"x (x.y)": "ImportError: no z"})
    assert found(checkup.plugins()) == [
        ("wrong", "plugin x (x.y) failed: ImportError: no z: mend or uninstall it; `its plugins` lists the others")
    ]


def test_a_config_that_is_not_there(capsys, monkeypatch):
    monkeypatch.setattr("its.weights.hub_trouble", lambda: None)
    assert main(["doctor", "--config", str(Path("none.yaml"))]) == 2
    assert "there is no config none.yaml" in capsys.readouterr().err
