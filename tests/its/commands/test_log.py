"""`its log`, and `its predict` with W&B's logger, offline: what wandb wrote is read again."""

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from PIL import Image

from its.cli import main
from its.report.wandb_log import runs_of, summary_of
from its.runs.reader import read_runs
from its.runs.records import numbers, seconds_of

SECRET = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    """Store wandb's files in the test's folder, without a login, and reset its state between tests."""
    import wandb

    for name in ("WANDB_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_ARTIFACT_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "wandb_home"))
    (tmp_path / "wandb_home").mkdir()
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_X_DISABLE_META", "true")
    for name in ("WANDB_API_KEY", "WANDB_MODE", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()
    yield
    wandb.teardown()


@pytest.fixture
def run(tmp_path):
    """Two samples, one with scores, and a failed one."""
    for name, extra in (("a", {"scores": {"clip": 0.25, "clap": {"mean": 0.5}}}), ("b", {"scores": {}})):
        folder = tmp_path / "logged/samples" / name
        folder.mkdir(parents=True)
        record = {"id": name, "status": "ok", "prompts": {"visual": f"<b>{name}", "audio": "bell"}, "seed": 3}
        (folder / "sample.json").write_text(json.dumps({**record, "timings": {"denoise": 4, "batch_size": 2}, **extra}))
        Image.new("L", (96, 64), 100).save(folder / "spectrogram.png")
        soundfile.write(folder / "audio.wav", np.zeros(16_000), 16_000)
    (tmp_path / "logged/samples/c").mkdir()
    (tmp_path / "logged/samples/c/sample.json").write_text(
        json.dumps({"id": "c", "status": "failed", "prompts": {}, "seed": 1})
    )
    (tmp_path / "logged/its_config.yaml").write_text("# torch 2\nmodel: {steps: 7}\n")
    return tmp_path / "logged"


def log_records(content):
    """Records of a .wandb file: LevelDB's log format after seven bytes. Wandb's own reader is no longer in Python."""
    at, record = 7, b""
    while at + 7 <= len(content):
        if (left := 32_768 - at % 32_768) < 7:  # blocks end in zeros where no header fits
            at += left
            continue
        size, kind = struct.unpack("<4xHB", content[at : at + 7])
        record += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last piece
            yield record
            record = b""


def written(folder):
    """What wandb wrote offline below a folder: config, summary, history, rows of the table, and its media."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    wandb.teardown()  # its process writes the last of it
    (path,) = folder.rglob("*.wandb")
    config, summary, history, files = {}, {}, [], {}
    for data in log_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for update in (*record.run.config.update, *record.config.update):
            config[update.key or ".".join(update.nested_key)] = json.loads(update.value_json)
        for update in record.summary.update:
            summary[update.key or ".".join(update.nested_key)] = json.loads(update.value_json)
        files |= {entry.path: Path(entry.local_path) for entry in record.artifact.manifest.contents}
        if record.history.item:
            history.append({i.key or ".".join(i.nested_key): json.loads(i.value_json) for i in record.history.item})
    table = json.loads(files["table.table.json"].read_text())
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    return config, summary, history, rows, files


def test_a_run_is_logged_from_its_folder(run, tmp_path):
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    assert main(["log", str(run), "--mode", "offline", "--project", "p", "--dir", str(tmp_path / "wandb_home")]) == 0
    config, summary, history, (first, second), files = written(tmp_path / "wandb_home")
    assert config["model"] == {"steps": 7}
    assert summary["samples"] == 2
    assert summary["failed"] == 1
    assert summary["scores/clip"] == 0.25
    assert summary["seconds_per_sample"] == 2
    assert any(row.get("table._type") == "table-file" for row in history)
    assert list(first) == ["id", "visual", "audio", "seed", "spectrogram", "sound", "clip", "clap.mean", "seconds"]
    assert (first["id"], first["visual"], first["audio"], first["seed"]) == ("a", "<b>a", "bell", 3)
    assert (first["clip"], first["clap.mean"], second["clip"]) == (0.25, 0.5, None)
    assert (first["spectrogram"]["width"], first["spectrogram"]["height"]) == (96, 64)
    assert first["sound"]["_type"] == "audio-file"
    for column, name in (("spectrogram", "spectrogram.png"), ("sound", "audio.wav")):
        assert files[first[column]["path"]].read_bytes() == (run / "samples/a" / name).read_bytes()
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_predict_logs_config_progress_and_samples(config, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", SECRET)
    logger = {"class_path": "WandbLogger", "init_args": {"offline": True}}
    content = yaml.safe_load(config.read_text())
    content["trainer"]["logger"] = logger
    content["data"]["batch_size"] = 1
    config.write_text(yaml.safe_dump(content))
    where = ["--trainer.logger.save_dir", str(tmp_path / "wandb_home")]
    assert main(["predict", "--config", str(config), "--save", "[video]", *where]) == 0
    found, summary, history, rows, _ = written(tmp_path / "wandb_home")

    assert found["model"]["steps"] == 6
    assert [row["samples"] for row in history if "samples" in row][-1] == 2
    assert summary["samples"] == 2
    assert summary["seconds_per_sample"] > 0
    assert all(row["video"]["_type"] == "video-file" for row in rows)
    assert [row["id"] for row in rows] == [p.name for p in sorted((config.parent / "run/samples").iterdir())]
    files = [p for p in (*(config.parent / "run").rglob("*"), *(tmp_path / "wandb_home").rglob("*")) if p.is_file()]
    assert not [p for p in files if SECRET.encode() in p.read_bytes()]


def test_online_without_a_login_is_one_message(run, config, tmp_path, capsys):
    home = str(tmp_path / "wandb_home")
    assert main(["log", str(run), "--mode", "online", "--dir", home]) == 2
    assert "W&B can't start: " in capsys.readouterr().err
    arguments = ["--trainer.logger", "WandbLogger", "--trainer.logger.init_args.save_dir", home]
    assert main(["predict", "--config", str(config), *arguments]) == 2
    err = capsys.readouterr().err
    assert "its: trainer.logger: W&B can't start" in err
    assert "Traceback" not in err
    assert not list((config.parent / "run").rglob("sample.json"))


def test_off_is_off(run, config, tmp_path, monkeypatch):
    assert main(["log", str(run), "--mode", "disabled"]) == 0
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert main(["predict", "--config", str(config), "--trainer.logger", "WandbLogger"]) == 0
    assert not list(tmp_path.rglob("*.wandb"))


def test_other_ranks_have_no_run():
    class Trainer:
        is_global_zero = False

    assert runs_of(Trainer()) == []


def test_a_run_without_its_config(run, capsys):
    (run / "its_config.yaml").unlink()
    assert main(["log", str(run), "--mode", "offline"]) == 2
    assert "its_config.yaml can't be read" in capsys.readouterr().err


def test_numbers_of_scores():
    scores = {"a": 1, "b": {"c": 0.5, "d": "text"}, "e": float("nan"), "f": True, "g": None}
    assert dict(numbers(scores)) == {"a": 1.0, "b.c": 0.5}
    assert seconds_of({"timings": {}}) is None


def test_the_summary_counts(run):
    assert summary_of(read_runs([run])[0].samples)["scores/clap.mean"] == 0.5


def test_rank_0_alone_keeps_a_run_with_the_samples_of_all_ranks(config, tmp_path, forks):
    command = ["predict", f"--config={config}", "--trainer.devices=2", "--model.steps=1", "--data.batch_size=1"]
    command += ["--trainer.logger=WandbLogger", f"--trainer.logger.save_dir={tmp_path / 'wandb_home'}"]
    forks.run(command, *({**rank, "WANDB_MODE": "offline"} for rank in forks.ranks(2)))
    _, summary, _, rows, _ = written(tmp_path / "wandb_home")  # of one run: more would be an error
    assert summary["samples"] == 2
    assert [row["seed"] for row in rows] == [1, 2]
