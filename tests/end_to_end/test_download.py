"""First run of a config on a machine: downloads and messages."""

import contextlib
import io
import re
import shutil

import hub_trees
import pytest
from hub_runs import ROOT, SMALL, WEIGHTS

from its.app.jobs import Cancelled, Job
from its.app.weights import Weights
from its.cli import main
from its.errors import UserError
from its.weights.downloads import size

CONFIGS = ["unet/config.json", "text_encoder/config.json", "vae/config.json", "scheduler/scheduler_config.json"]
TOKENIZER = [f"tokenizer/{name}" for name in ("merges.txt", "vocab.json", "tokenizer_config.json")]
TOKENIZER += ["tokenizer/special_tokens_map.json"]
SMALL_FILES = {
    hub_trees.STABLE_DIFFUSION: CONFIGS,
    hub_trees.AUFFUSION: [*CONFIGS, "vocoder/config.json"],
}
"""Files that are read to find the others."""
LARGE_FILES = {
    hub_trees.STABLE_DIFFUSION: [
        "text_encoder/model.safetensors",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        *TOKENIZER,
    ],
    hub_trees.AUFFUSION: [
        "text_encoder/pytorch_model.bin",
        "unet/diffusion_pytorch_model.bin",
        "vae/diffusion_pytorch_model.bin",
        "vocoder/vocoder.pt",
        *TOKENIZER,
    ],
}
"""Files that are announced."""


def test_only_used_files_are_downloaded_once_and_logged_before(fresh, monkeypatch):
    said = io.StringIO()
    before_weights = []
    respond = fresh.hub.respond

    def watched(method, url, headers):
        if method == "GET" and url.endswith(WEIGHTS) and not headers.get("Range") and not before_weights:
            before_weights.append(said.getvalue())
        return respond(method, url, headers)

    monkeypatch.setattr(fresh.hub, "respond", watched)
    with contextlib.redirect_stderr(said):
        assert main(["predict", f"--config={ROOT}/configs/castle_bell.yaml", *SMALL, f"--output={fresh.run}"]) == 0

    expected = {(repo, name) for files in (SMALL_FILES, LARGE_FILES) for repo, names in files.items() for name in names}
    assert set(fresh.hub.served) == expected
    for (repo, name), count in fresh.hub.served.items():
        content = (fresh.trees / repo / "main" / name).read_bytes()
        assert count == len(content)
        assert content != hub_trees.UNUSED

    sizes = {
        repo: sum((fresh.trees / repo / "main" / name).stat().st_size for name in names)
        for repo, names in LARGE_FILES.items()
    }
    assert before_weights[0].splitlines()[:3] == [
        f"its: downloading {hub_trees.STABLE_DIFFUSION} at 451f4fe: 7 files, {size(sizes[hub_trees.STABLE_DIFFUSION])}",
        f"its: downloading {hub_trees.AUFFUSION} at a75ebf2: 8 files, {size(sizes[hub_trees.AUFFUSION])}",
        f"its: {size(sum(sizes.values()))} in total, to {fresh.cache}",
    ]
    assert fresh.hub.requests.count(("GET", f"/api/models/{hub_trees.AUFFUSION}")) == 1


def test_the_second_run_of_a_config_makes_no_requests(cached):
    cached.made()
    assert cached.hub.requests == []


def test_a_download_that_stopped_goes_on(cached):
    lost = cached.snapshot(hub_trees.AUFFUSION) / "unet" / "diffusion_pytorch_model.bin"
    lost.resolve().unlink()
    lost.unlink()
    outcome = cached.predict()
    assert outcome.status == 0
    assert cached.weights_served() == [f"{hub_trees.AUFFUSION}/unet/diffusion_pytorch_model.bin"]
    assert re.search(r"its: downloading auffusion/\S+ at a75ebf2: 1 file, \d+ kB\n", outcome.err)


def test_variants_and_other_revisions_are_downloaded_by_name(fresh):
    visual, audio = "--model.experts.visual.init_args", "--model.experts.audio.init_args"
    record = fresh.made(f"{visual}.variant=fp16", f"{audio}.revision=refs/pr/1")
    assert record["weights"]["experts.audio"]["revision"] == hub_trees.COMMITS[hub_trees.AUFFUSION, "refs/pr/1"]
    served = fresh.weights_served()
    assert f"{hub_trees.STABLE_DIFFUSION}/unet/diffusion_pytorch_model.fp16.safetensors" in served
    assert f"{hub_trees.STABLE_DIFFUSION}/unet/diffusion_pytorch_model.safetensors" not in served
    assert f"{hub_trees.AUFFUSION}/unet/diffusion_pytorch_model.safetensors" in served


def test_the_only_variant_of_a_repository_is_read_and_logged(cached, tmp_path):
    folder = cached.serve("someone/half", base=hub_trees.STABLE_DIFFUSION)
    for path in folder.rglob("*"):
        if path.name.endswith(("model.safetensors", ".bin", ".ckpt")):
            path.unlink()
    cached.hub.add("someone/half-only", folder)
    outcome = cached.predict("--model.experts.visual.init_args.weights=someone/half-only")
    assert outcome.status == 0
    assert "its: someone/half-only: using its fp16 weights" in outcome.err
    (record,) = cached.records()
    assert record["weights"]["experts.visual"]["files"] == [
        "text_encoder/model.fp16.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
    ]


@pytest.mark.slow
def test_a_slow_hub(cached):
    shutil.rmtree(cached.snapshot(hub_trees.AUFFUSION).parents[1])
    cached.hub.delay = 0.3
    cached.made()
    assert f"{hub_trees.AUFFUSION}/vocoder/vocoder.pt" in cached.weights_served()


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ("castle_bell.yaml", "unet/diffusion_pytorch_model.bin"),
        ("castle_bell.yaml", "text_encoder/pytorch_model.bin"),
        ("castle_bell.yaml", "vocoder/vocoder.pt"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(cached, tmp_path, config, file, zipped):
    created = tmp_path / "created"
    folder = cached.serve("someone/evil", base=hub_trees.AUFFUSION)
    write_evil(folder / file, created, zipped=zipped)
    cached.hub.add("someone/evil-one", folder)
    weights = "--model.experts.audio.init_args.weights=someone/evil-one"
    if file.startswith("vocoder"):
        weights = "--model.vocoder.init_args.weights=someone/evil-one"
    outcome = cached.predict(weights, config=config)
    assert outcome.status == 2
    last = outcome.err.strip().splitlines()[-1]
    assert last.startswith("its: ")
    assert file in last
    assert "is damaged, or contains other objects than tensors" in last
    assert "Traceback" not in outcome.err
    assert not created.exists()
    assert cached.records() == []


@pytest.mark.parametrize("argument", ["weights", "lora"])
def test_a_local_pickle_with_code_is_refused_and_not_run(cached, tmp_path, argument):
    created = tmp_path / "created"
    write_evil(tmp_path / "evil.ckpt", created, zipped=True)
    value = f"[{{weights: {tmp_path}/evil.ckpt}}]" if argument == "lora" else f"{tmp_path}/evil.ckpt"
    message = cached.refused(f"--model.experts.visual.init_args.{argument}={value}")
    assert "evil.ckpt is damaged, or contains other objects than tensors" in message
    assert not created.exists()


class Evil:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def write_evil(path, created, *, zipped):
    """Write what `torch.save` writes, with an object that creates a file when it is unpickled."""
    import torch

    torch.save({"weight": torch.zeros(2), "evil": Evil(created)}, path, _use_new_zipfile_serialization=zipped)
    torch.load(path, weights_only=False)["evil"].close()
    assert created.exists()
    created.unlink()


def test_rerun_downloads_weights_only_with_consent(cached, tmp_path, monkeypatch):
    cached.made("--data.seeds=[3]")
    (picture,) = cached.run.glob("samples/*/spectrogram.png")
    again = ["rerun", picture, "--output", tmp_path / "again"]
    assert cached.its(*again).status == 0  # everything is here
    cached.use(tmp_path / "empty")

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for answer in (io.StringIO("y\n"), Terminal("n\n"), Terminal("")):
        monkeypatch.setattr("sys.stdin", answer)
        refused = cached.its(*again)
        assert refused.status == 2
        assert "stable-diffusion-v1-5/stable-diffusion-v1-5" in refused.err
        assert "--download" in refused.err
        assert not cached.hub.requests
    assert not (tmp_path / "empty").exists()

    monkeypatch.setattr("sys.stdin", Terminal("yes\n"))
    assert cached.its(*again, "--output", tmp_path / "asked").status == 0
    cached.use(tmp_path / "emptied")
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert cached.its(*again, "--download", "--output", tmp_path / "told").status == 0


def test_the_page_downloads_on_request_alone_with_progress(fresh):
    weights = Weights(["castle_bell"], overrides={"model.canvas": [256, 64], "model.trim": 0}, trust=())
    weights.load(Job("load", weights.load))
    assert (weights.status.embedded, weights.status.missing) == (True, True)
    assert fresh.hub.requests == []

    received = []

    class Watched(Job):
        def check(self):
            received.append(self.progress)
            if len(received) == 3:
                raise Cancelled

    with pytest.raises(Cancelled):
        weights.download(Watched("download", weights.download))
    assert weights.status.embedded

    job = Job("download", weights.download)
    weights.download(job)
    assert (weights.status.embedded, weights.status.missing) == (False, False)
    assert hub_trees.STABLE_DIFFUSION in weights.status.text
    assert job.progress == 1.0
    assert re.fullmatch(r"(.+) of \1", job.note)


def test_the_page_says_why_a_download_is_impossible(fresh):
    weights = Weights(["castle_bell"], overrides={"model.canvas": [256, 64], "model.trim": 0}, trust=())
    weights.load(Job("load", weights.load))
    cache = fresh.cache
    fresh.disconnect()
    with pytest.raises(UserError, match="unreachable"):
        weights.download(Job("download", weights.download))
    assert weights.status.embedded
    fresh.use(cache)
    weights.download(Job("download", weights.download))
    assert not weights.status.embedded
