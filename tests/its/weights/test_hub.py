"""Tests of requests to the hub, and of the messages for its errors."""

import threading
import time

import pytest
import torch
from huggingface_hub import constants
from loopback_hub import Hub
from weight_files import save_tensors

from its.errors import UserError
from its.weights import Pin, WeightsNotFound, pin
from its.weights.hub import cached_snapshot, licence_page, list_repository, local_only, unreachable_reason

REPOSITORY = "someone/model"
UNET = "unet/diffusion_pytorch_model.safetensors"


def find(repository=REPOSITORY, revision=None, checkpoint=None):
    return list_repository(repository, revision, name=repository, checkpoint=checkpoint)


def refused(repository=REPOSITORY, revision=None, checkpoint=None):
    """Return reason and remedy of the error."""
    with pytest.raises(WeightsNotFound) as missing:
        find(repository, revision, checkpoint)
    assert missing.value.reason
    return missing.value.reason, missing.value.remedy


def test_a_listing_has_names_and_sizes_and_is_asked_once(served, tree):
    found = find()
    assert found.revision == "a" * 40
    assert found.sizes == {p.relative_to(tree).as_posix(): p.stat().st_size for p in tree.rglob("*") if p.is_file()}
    assert find().sizes == found.sizes
    assert len(served.requests) == 1
    assert not served.served


def test_json_is_downloaded_alone_and_without_a_progress_bar(served, capsys):
    found = find()
    assert found.json("unet/config.json") == {"width": 3}
    assert set(served.served) == {(REPOSITORY, "unet/config.json")}
    assert capsys.readouterr().err == ""
    assert set(found.missing(["unet/config.json", UNET])) == {UNET}


def test_shapes_are_read_from_the_beginning_of_a_file(hub, tmp_path):
    tensors = {"large": torch.zeros(1000, 1000), "small": torch.zeros(2, 3)}
    save_tensors(tmp_path / "tree" / "x.safetensors", tensors)
    save_tensors(tmp_path / "tree" / "x.ckpt", tensors)
    hub.add(REPOSITORY, tmp_path / "tree")
    found = find()
    assert found.shapes("x.safetensors") == {"large": (1000, 1000), "small": (2, 3)}
    assert 0 < hub.begun[REPOSITORY, "x.safetensors"] < 200_000
    assert not hub.served
    assert set(found.missing(["x.safetensors"])) == {"x.safetensors"}
    assert found.shapes("x.ckpt") is None  # the shapes of a remote pickle are unknown
    assert not hub.served[REPOSITORY, "x.ckpt"]
    found.fetch(["x.ckpt", "x.safetensors"])
    hub.forget()
    assert found.shapes("x.ckpt") == found.shapes("x.safetensors")
    assert not hub.requests


def test_only_files_that_are_missing_are_fetched(served):
    found = find()
    found.fetch(["unet/config.json"])
    served.forget()
    found.fetch(["unet/config.json", UNET])
    assert set(served.served) == {(REPOSITORY, UNET)}
    served.forget()
    found.fetch(["unet/config.json", UNET])
    assert not served.requests


@pytest.mark.parametrize("quiet", [False, True])
def test_names_with_characters_of_patterns_are_fetched_alone(hub, tmp_path, quiet):
    for name in ("x[1].bin", "x1.bin", "x*.bin"):
        save_tensors(tmp_path / "tree" / name)
    hub.add(REPOSITORY, tmp_path / "tree")
    find().fetch(["x[1].bin", "x*.bin"], quiet=quiet)
    assert {name for _, name in hub.served} == {"x[1].bin", "x*.bin"}


def test_a_snapshot_in_the_cache_is_found_by_branch_and_by_commit(served):
    assert cached_snapshot(REPOSITORY, None, name=REPOSITORY, checkpoint=None) is None
    find().fetch(["unet/config.json"])
    for revision in (None, "main", "a" * 40):
        found = cached_snapshot(REPOSITORY, revision, name=REPOSITORY, checkpoint=None)
        assert list(found.sizes) == ["unet/config.json"]
    assert cached_snapshot(REPOSITORY, "b" * 40, name=REPOSITORY, checkpoint=None) is None


def test_nothing_is_asked_within_local_only_and_offline(served, monkeypatch):
    with local_only():
        reason, _ = refused()
    assert reason == f"{REPOSITORY} is not on this machine"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    reason, remedy = refused()
    assert "HF_HUB_OFFLINE" in reason
    assert "Unset it" in remedy
    assert unreachable_reason() == "HF_HUB_OFFLINE is set"
    assert not served.requests
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert find().revision == "a" * 40
    assert unreachable_reason() is None


def test_a_name_that_is_none_is_refused_without_a_request(served):
    for name in ("owner/na me", "owner/name--x", "owner/-"):
        reason, remedy = refused(name)
        assert f"{name} is neither on this machine nor a valid name on the hub" in reason
        assert "owner/name" in remedy
    assert not served.requests


def test_what_the_hub_does_not_have_is_named(served):
    reason, remedy = refused("nobody/nothing")
    assert "nobody/nothing is not on this machine, and the hub has no such repository" in reason
    assert "private" in remedy
    assert "HF_TOKEN" in remedy
    for revision in ("v2", "refs/pr/3", "b" * 40):
        reason, remedy = refused(revision=revision)
        assert reason == f"{REPOSITORY} has no revision {revision} on the hub"
        assert "revision" in remedy
    reason, _ = refused(checkpoint="other.ckpt")
    assert "has no file other.ckpt" in reason


def test_a_private_repository_needs_a_login(hub, tree, monkeypatch):
    hub.add("owner/private", tree, private=True)
    hub.token = "mine"
    for token in (None, "another"):
        if token:
            monkeypatch.setenv("HF_TOKEN", token)
        reason, remedy = refused("owner/private")
        assert "the hub has no such repository" in reason
        assert "if it is private, log in with `hf auth login`, or set HF_TOKEN" in remedy
    monkeypatch.setenv("HF_TOKEN", "mine")
    assert find("owner/private").json("unet/config.json") == {"width": 3}


def test_an_expired_token_is_named(hub, tree, monkeypatch):
    """The hub refuses an expired token for public repositories too."""
    hub.add(REPOSITORY, tree)
    hub.expired = "old"
    monkeypatch.setenv("HF_TOKEN", "old")
    with pytest.raises(WeightsNotFound) as missing:
        find()
    assert "refuses the login" in missing.value.reason
    assert "hf auth login" in missing.value.remedy
    assert "unset HF_TOKEN" in missing.value.remedy
    monkeypatch.setenv("HF_TOKEN", "")
    assert find().sizes


def test_a_gated_repository_needs_its_licence_and_a_login(hub, tree, monkeypatch):
    for name in ("owner/gated", "owner/other"):
        hub.add(name, tree, gated=True)
    hub.token = "accepted"
    pin({"owner/other": Pin(licence_page="https://example.org/licence")})
    for name, page in (("owner/gated", f"{hub.endpoint}/owner/gated"), ("owner/other", "https://example.org/licence")):
        assert licence_page(name) == page
        found = find(name)  # listing requires no access
        for token in ("", "not-accepted"):
            monkeypatch.setenv("HF_TOKEN", token)
            for ask in (lambda found=found: found.json("unet/config.json"), lambda found=found: found.fetch([UNET])):
                with pytest.raises(WeightsNotFound) as missing:
                    ask()
                assert missing.value.reason == f"{name} is gated"
                assert page in missing.value.remedy
                assert "HF_TOKEN" in missing.value.remedy
    monkeypatch.setenv("HF_TOKEN", "accepted")
    assert found.json("unet/config.json") == {"width": 3}
    found.fetch([UNET])
    assert not found.missing([UNET])


def test_a_hub_that_is_closed_is_asked_once(served):
    served.close()
    reason, remedy = refused()
    assert f"{REPOSITORY} is not on this machine, and {served.endpoint} is unreachable" in reason
    assert "Connect" in remedy
    assert served.endpoint in unreachable_reason()
    assert "nobody/other is not on this machine" in refused("nobody/other")[0]


@pytest.fixture
def impatient(monkeypatch):
    """Set HF_HUB_ETAG_TIMEOUT, in seconds, as a user does."""

    def set_to(seconds):
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", seconds)

    return set_to


def test_a_hub_that_never_answers_is_given_up_once_and_for_all(served, impatient):
    impatient(0.2)
    served.delay = 30
    begin = time.monotonic()
    reason, _ = refused()
    assert "is unreachable" in reason
    asked = len(served.requests)
    assert asked >= 1
    refused("nobody/other")
    assert len(served.requests) == asked
    assert unreachable_reason() is not None
    assert time.monotonic() - begin < 20  # generous: it only must not hang


def test_a_slow_hub_is_waited_for_as_long_as_its_own_variable_says(served, impatient):
    served.delay = 0.4
    impatient(20)
    assert unreachable_reason() is None
    found = find()
    assert found.json("unet/config.json") == {"width": 3}
    found.fetch([UNET])
    assert not found.missing([UNET])


def test_a_hub_that_stops_answering_between_listing_and_download(served, monkeypatch):
    found = find()
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub retries for half a minute
    served.close()
    for ask in (lambda: found.json("unet/config.json"), lambda: found.fetch([UNET])):
        with pytest.raises(WeightsNotFound, match="is unreachable"):
            ask()


def test_another_hub_is_asked_though_one_is_silent(served, tree, monkeypatch, tmp_path):
    served.close()
    refused()
    with Hub() as second:
        second.connect(monkeypatch, tmp_path / "cache")
        second.add(REPOSITORY, tree, revision="b" * 40)
        assert find().revision == "b" * 40


@pytest.mark.parametrize("status", [418, 500])
def test_an_error_of_the_hub_is_reported_by_its_status(served, monkeypatch, status):
    monkeypatch.setattr(served, "respond", lambda *_: (status, {}, b""))
    reason, remedy = refused()
    assert f"returned {status} for {REPOSITORY}" in reason
    assert "later" in remedy


def test_a_cache_that_can_not_be_written_to_is_no_network_trouble(served, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "file" / "cache"))
    found = find()
    with pytest.raises(UserError, match="HF_HOME") as error:
        found.fetch([UNET])
    assert REPOSITORY in str(error.value)


def test_processes_that_download_the_same_wait_for_each_other(served):
    found = find()
    threads = [threading.Thread(target=found.fetch, args=([UNET],)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not found.missing([UNET])


@pytest.mark.parametrize("content", [b"", b"\x02\0\0\0\0\0\0\0[]"])
def test_an_empty_file_and_a_header_of_something_else_are_damaged_weights(hub, tmp_path, content):
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "x.safetensors").write_bytes(content)
    hub.add(REPOSITORY, tmp_path / "tree")
    with pytest.raises(UserError, match="get the weights from another source"):
        find().shapes("x.safetensors")
