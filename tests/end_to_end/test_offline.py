"""Runs from the cache, without a hub or without all files."""

import hub_trees
import pytest

SCHEDULE = "scheduler/scheduler_config.json"
BOTH = (hub_trees.STABLE_DIFFUSION, hub_trees.AUFFUSION)


@pytest.fixture(params=["closed", "HF_HUB_OFFLINE"])
def offline(request, cached, monkeypatch):
    """A cache with what `castle_bell.yaml` needs, and no way to download more."""
    if request.param == "closed":
        cached.disconnect()
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    yield cached
    assert cached.hub.requests == []


@pytest.fixture
def closed(cached):
    """The same with a hub that does not answer."""
    cached.disconnect()
    return cached


def lose(world, name, repository=hub_trees.AUFFUSION):
    """Delete a file from the cache."""
    link = world.snapshot(repository) / name
    link.resolve().unlink()
    link.unlink()


def test_a_run_needs_no_hub_once_everything_is_there(offline):
    record = offline.made()
    assert record["fallback"] is None
    assert record["weights"]["experts.audio"]["revision"] == hub_trees.COMMITS[hub_trees.AUFFUSION, "main"]


def test_a_run_needs_no_optional_files(offline):
    whole = offline.made()
    for repository in BOTH:
        lose(offline, SCHEDULE, repository)
        lose(offline, "tokenizer/special_tokens_map.json", repository)
    offline.run = offline.run.with_name("partial")
    partial = offline.made()
    assert partial["id"] == whole["id"]
    assert partial["weights"] == whole["weights"]


def test_an_optional_file_is_downloaded_where_the_hub_answers(cached):
    lose(cached, SCHEDULE)
    cached.made()
    assert set(cached.hub.served) == {(hub_trees.AUFFUSION, SCHEDULE)}


@pytest.mark.parametrize(
    "name", ["unet/diffusion_pytorch_model.bin", "unet/config.json", "tokenizer/vocab.json", "vocoder/config.json"]
)
def test_a_required_file_that_is_missing_is_an_error(offline, name):
    lose(offline, name)
    message = offline.refused()
    key = "model.vocoder" if name.startswith("vocoder") else "model.experts.audio"
    assert message.startswith(f"{key}: {hub_trees.AUFFUSION} lacks {name.removesuffix('.bin')}")
    assert str(offline.snapshot(hub_trees.AUFFUSION)) in message
    assert "is unreachable" in message or "HF_HUB_OFFLINE is set" in message
    assert "Connect to the network" in message or "Unset it to download" in message
    assert "set model.fallback to mini" in message


def warning(outcome):
    (line,) = [line for line in outcome.err.splitlines() if "WARNING" in line]
    return line


def fallback(world, *arguments, **options):
    """Run with the embedded pack as fallback, which has to be taken; the warning."""
    outcome = world.predict("--model.fallback=mini", *arguments, **options)
    assert outcome.status == 0, outcome.err
    (record,) = world.records()
    assert record["fallback"]
    assert all(weights["embedded"] for weights in record["weights"].values())
    assert world.weights_served() == []
    assert warning(outcome).startswith("its: WARNING: using the embedded demo weights (mini: ")
    assert record["fallback"] in warning(outcome)
    return warning(outcome)


def test_the_fallback_names_the_missing_file_and_the_network(closed):
    lose(closed, "unet/diffusion_pytorch_model.bin")
    said = fallback(closed)
    assert f"model.experts.audio: {hub_trees.AUFFUSION} lacks unet/diffusion_pytorch_model" in said
    assert "is unreachable" in said
    assert "Connect to the network and run again, or use a local folder" in said


def test_the_fallback_names_the_network_where_nothing_is_cached(fresh):
    fresh.disconnect()
    said = fallback(fresh)
    assert f"model.experts.visual: {hub_trees.STABLE_DIFFUSION} is not on this machine" in said
    assert "Connect to the network" in said


def test_the_fallback_names_the_login(cached):
    said = fallback(cached, "--model.colorizer.init_args.steps=8", config="castle_bell.yaml+colorize.yaml")
    assert "model.colorizer: DeepFloyd/IF-I-M-v1.0 is gated" in said
    assert "https://huggingface.co/DeepFloyd/IF-I-XL-v1.0" in said
    assert "HF_TOKEN" in said


def test_the_fallback_names_the_missing_file_of_a_folder(cached, tmp_path):
    folder = cached.serve("someone/partial")
    for path in folder.glob("unet/diffusion*"):
        path.unlink()
    said = fallback(cached, f"--model.experts.visual.init_args.weights={folder}")
    assert f"{folder} lacks unet/diffusion_pytorch_model.safetensors" in said
    assert "Add the file" in said
