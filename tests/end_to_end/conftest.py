"""A loopback hub with the real repositories, and caches in several states."""

import shutil
from pathlib import Path

import hub_trees
import pytest
from hub_runs import World
from loopback_hub import Hub


@pytest.fixture(scope="session")
def served_models(tmp_path_factory):
    """The hub, its files, and the cache that tests fill together."""
    trees = tmp_path_factory.getbasetemp() / "real-models"  # shared with the tests of the hub
    with Hub() as hub:
        hub_trees.everything(hub, trees)
        yield hub, trees, tmp_path_factory.mktemp("hub") / "cache"


@pytest.fixture
def world(served_models, tmp_path, monkeypatch, capfd):
    """The hub, and a cache that holds what earlier tests downloaded."""
    hub, trees, cache = served_models
    yield World(hub, trees, cache, tmp_path, monkeypatch, capfd)
    hub.token, hub.delay = None, 0.0


@pytest.fixture
def fresh(world, tmp_path):
    """The hub, and an empty cache."""
    world.use(tmp_path / "cache")
    return world


@pytest.fixture(scope="session")
def downloaded(served_models):
    """A cache with what `castle_bell.yaml` needs, and nothing else. It must not be changed."""
    hub, _, shared = served_models
    cache = shared.with_name("castle_bell")
    with pytest.MonkeyPatch.context() as monkeypatch:
        hub.connect(monkeypatch, cache)
        from its import registry
        from its.weights import prepare
        from its_plugins.experts.auffusion import Auffusion
        from its_plugins.experts.stable_diffusion import StableDiffusion
        from its_plugins.vocoders.hifi_gan import HiFiGAN

        registry.load_plugins()
        experts = [StableDiffusion(), Auffusion()]
        prepare([*experts, *(expert.codec() for expert in experts), HiFiGAN()])
    return cache


@pytest.fixture
def cached(world, downloaded, tmp_path):
    """The hub, and a cache of this test's own with what `castle_bell.yaml` needs."""
    world.use(Path(shutil.copytree(downloaded, tmp_path / "cache", symlinks=True)))
    return world
