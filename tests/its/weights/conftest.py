"""Fixtures: a loopback hub, and empty caches of `its.weights`."""

import pytest
from loopback_hub import Hub
from weight_files import save_tensors

from its.weights import hub as hub_of_its
from its.weights import model_files, source

REPOSITORY = "someone/model"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Clear unreachable endpoints, listings, pins, digests and logged messages."""
    monkeypatch.setattr(hub_of_its, "_unreachable", {})
    monkeypatch.setattr(hub_of_its, "_pins", {})
    caches = (hub_of_its._listing, model_files.log_variant, source._digest)
    for cache in caches:
        cache.cache_clear()
    yield
    for cache in caches:
        cache.cache_clear()


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with Hub() as hub:
        hub.connect(monkeypatch, tmp_path / "cache")
        yield hub


@pytest.fixture
def tree(tmp_path):
    """Model folder with two small files, an optional one, one with weights, and an unused one."""
    folder = tmp_path / "tree"
    save_tensors(folder / "unet" / "diffusion_pytorch_model.safetensors")
    (folder / "unet" / "config.json").write_text('{"width": 3}')
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text('{"beta_start": 0.5}')
    (folder / "README.md").write_text("not needed")
    return folder


@pytest.fixture
def served(hub, tree):
    """Serve the model on the hub as someone/model."""
    hub.add(REPOSITORY, tree, revision="a" * 40)
    return hub
