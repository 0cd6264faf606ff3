"""Tests of resolving names of weights: packs, folders, files, the hub's cache, and the hub."""

import json
import shutil

import pytest
import torch
from huggingface_hub import constants, snapshot_download
from weight_files import TENSORS, save_tensors

from its import registry
from its.errors import UserError
from its.weights import Pin, WeightsNotFound, pin, source
from its.weights.resolve import resolve
from its.weights.source import folder_source, weights_identity

REPOSITORY = "someone/model"
COMMIT = "a" * 40
NAMES = ("unet/config.json", "unet/diffusion_pytorch_model.safetensors")
SCHEDULE = "scheduler/scheduler_config.json"


def select(found):
    """Select two required files and an optional one, as an expert does."""
    names = found.require(*NAMES)
    return names + ((SCHEDULE,) if found.has_optional(SCHEDULE) else ())


def names_of(weights, revision=None):
    found, names = resolve(weights, revision, select)
    return found, set(names)


# On this machine


@pytest.mark.parametrize(
    "name", ["", " ", "a/b\0", "\ud800/x", "x" * 3000, "~nobody/x", "$NOTHING/x", "/dev/zero", "./x.bin"]
)
def test_names_that_are_no_paths_are_one_short_message(name):
    with pytest.raises(UserError, match="weights: ") as refused:
        resolve(name, None, select)
    assert len(str(refused.value)) < 500


def test_a_folder_is_found_with_its_files(tree, monkeypatch):
    found, names = names_of(str(tree))
    assert (found.folder, found.revision, found.embedded, found.checkpoint) == (tree, None, False, None)
    assert names == {*NAMES, SCHEDULE}
    assert found.missing(NAMES) == {}
    assert found.sizes[NAMES[0]] == (tree / NAMES[0]).stat().st_size
    monkeypatch.chdir(tree.parent)
    assert names_of("./tree")[1] == names
    assert names_of("tree")[1] == names
    monkeypatch.setenv("HOME", str(tree.parent))
    assert names_of("~/tree")[0].folder == tree
    assert names_of("$HOME/tree")[0].folder == tree


def test_a_folder_of_the_form_of_a_repository_is_taken_before_the_hub(tree, served, monkeypatch):
    monkeypatch.chdir(tree.parent)
    tree.rename(tree.parent / "someone")
    (tree.parent / "someone" / "model").mkdir()
    with pytest.raises(WeightsNotFound, match=r"someone/model lacks unet/config\.json"):
        resolve(REPOSITORY, None, select)
    assert not served.requests


def test_a_file_that_is_only_useful_may_be_missing_in_a_folder(tree):
    (tree / SCHEDULE).unlink()
    assert names_of(str(tree))[1] == set(NAMES)


def test_missing_files_are_named(tree):
    (tree / NAMES[1]).unlink()
    with pytest.raises(WeightsNotFound) as missing:
        resolve(str(tree), None, select)
    assert missing.value.reason == f"{tree} lacks {NAMES[1]}"
    assert "Add the file" in missing.value.remedy
    assert str(missing.value.prefixed("model.x")) == f"model.x: {missing.value.reason}. {missing.value.remedy}"


def test_a_folder_of_single_files_says_how_to_name_one(tmp_path):
    save_tensors(tmp_path / "v1-5-pruned.safetensors")
    with pytest.raises(WeightsNotFound) as missing:
        resolve(str(tmp_path), None, select)
    assert f"{tmp_path}/v1-5-pruned.safetensors" in missing.value.remedy


def test_a_broken_link_counts_as_missing(tree):
    (tree / NAMES[1]).unlink()
    (tree / NAMES[1]).symlink_to(tree / "nowhere")
    with pytest.raises(WeightsNotFound, match=f"lacks {NAMES[1]}"):
        resolve(str(tree), None, select)


def test_a_folder_in_the_place_of_a_file_counts_as_missing(tree):
    (tree / NAMES[1]).unlink()
    (tree / NAMES[1]).mkdir()
    with pytest.raises(WeightsNotFound, match=f"lacks {NAMES[1]}"):
        resolve(str(tree), None, select)


def test_hidden_and_deep_folders_are_not_listed(tree):
    for name in (".git/objects/x", "a/b/there", "a/b/c/too_deep"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("")
    listed = folder_source("x", tree).sizes
    assert "a/b/there" in listed
    assert not {".git/objects/x", "a/b/c/too_deep"} & set(listed)


@pytest.mark.parametrize("name", ["x.safetensors", "x.ckpt", "x.CKPT"])
def test_a_single_file_is_found(tmp_path, name):
    save_tensors(tmp_path / name)
    (tmp_path / "other.json").write_text("{}")
    found, names = resolve(str(tmp_path / name), None, lambda found: found.require(found.checkpoint))
    assert (found.folder, found.checkpoint, names) == (tmp_path, name, (name,))
    assert list(found.sizes) == [name]


def test_a_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "model.yaml").write_text("")
    with pytest.raises(UserError, match=r"model\.yaml is a file, but not one of \.safetensors, .*\.ckpt.* Expected a"):
        resolve(str(tmp_path / "model.yaml"), None, select)


@pytest.mark.parametrize(
    "weights", ["/no/such/folder", "./nothing", "~/nothing/here", "a-name", "a/b/c", "/no/file.ckpt", "x.safetensors"]
)
def test_a_missing_path_is_not_requested_from_the_hub(served, weights):
    """The error is a UserError, so that no fallback hides it."""
    with pytest.raises(UserError) as wrong:
        resolve(weights, None, select)
    for said in (weights, "diffusers folder", "checkpoint file", "owner/name"):
        assert said in str(wrong.value)
    assert not served.requests


@pytest.mark.parametrize("weights", ["", "  "])
def test_an_empty_name_is_refused(weights):
    with pytest.raises(UserError, match="weights"):
        resolve(weights, None, select)


def test_a_pack_is_embedded(tree):
    registry.register_pack(registry.Pack(name="test", folder=tree, config=tree / "c.yaml", summary="-"))
    try:
        found, names = resolve("pack:test", None, select)
        record = found.provenance(names)
        assert (record["name"], record["embedded"], len(record["sha256"])) == ("pack:test", True, 64)
        (tree / NAMES[0]).unlink()
        with pytest.raises(WeightsNotFound, match="pack:test lacks unet/config.json"):
            resolve("pack:test", None, select)
    finally:
        registry._packs.pop("test")


def test_an_unknown_pack_names_those_that_are_installed():
    with pytest.raises(UserError, match=r"unknown pack maxi; expected one of: .*mini"):
        resolve("pack:maxi", None, select)


# In the cache, and on the hub


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def fill_cache(*names, revision=None):
    """Download files as another program would."""
    snapshot_download(REPOSITORY, revision=revision, allow_patterns=list(names) or None)


def test_a_whole_cache_needs_no_hub(served):
    fill_cache()
    served.forget()
    found, names = names_of(REPOSITORY)
    assert names == {*NAMES, SCHEDULE}
    assert found.provenance(sorted(names)) == {"name": REPOSITORY, "revision": COMMIT, "files": [NAMES[1]]}
    assert not found.missing(sorted(names))
    assert not served.requests


def test_another_file_of_the_same_commit_is_another_provenance(served):
    """A cache may hold only the `.bin` of a commit that also has safetensors."""
    found = names_of(REPOSITORY)[0]
    records = [found.provenance((NAMES[0], name)) for name in (NAMES[1], "unet/diffusion_pytorch_model.bin")]
    assert records[0]["revision"] == records[1]["revision"] == COMMIT
    assert records[0] != records[1]


def test_a_cache_without_required_files_falls_back_to_the_hub(served):
    fill_cache("unet/*")
    found, names = names_of(REPOSITORY)
    assert names == {*NAMES, SCHEDULE}
    assert set(found.missing(sorted(names))) == {SCHEDULE}


@pytest.mark.usefixtures("offline")
def test_a_cache_without_useful_files_is_enough_offline(served, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    fill_cache("unet/*")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    found, names = names_of(REPOSITORY)
    assert names == set(NAMES)
    assert not found.strict


def test_a_cache_without_useful_files_is_enough_where_the_hub_is_out_of_reach(served):
    fill_cache("unet/*")
    served.close()
    assert names_of(REPOSITORY)[1] == set(NAMES)


def test_a_cache_without_needed_files_is_completed_by_the_hub(served):
    fill_cache("*.json")
    found, names = names_of(REPOSITORY)
    missing = found.missing(sorted(names))
    assert set(missing) == {NAMES[1]}
    served.forget()
    found.fetch(list(missing))
    assert {name for _, name in served.served} == {NAMES[1]}


@pytest.mark.parametrize("silent", [False, True])
def test_a_cache_without_needed_files_names_the_file_the_cache_and_why_the_hub_does_not_help(
    served, monkeypatch, tmp_path, silent
):
    fill_cache("*.json")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not silent)
    served.close()
    with pytest.raises(WeightsNotFound) as missing:
        names_of(REPOSITORY)
    for part in (NAMES[1], str(tmp_path / "cache"), "is unreachable" if silent else "HF_HUB_OFFLINE is set"):
        assert part in missing.value.reason
    assert ("Connect" if silent else "Unset it") in missing.value.remedy


@pytest.mark.usefixtures("offline")
def test_nothing_in_the_cache_while_offline():
    with pytest.raises(WeightsNotFound) as missing:
        names_of("nobody/nothing")
    assert "nobody/nothing is not on this machine, and HF_HUB_OFFLINE is set" in missing.value.reason
    assert "Unset it" in missing.value.remedy


def test_downloaded_weights_are_found_without_the_hub(served, monkeypatch):
    """Also applies to the default branch, whose commit is only on the hub."""
    for revision in (None, "main"):
        found, names = names_of(REPOSITORY, revision)
        found.fetch(sorted(names))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        served.forget()
        again, again_names = names_of(REPOSITORY, revision)
        assert (again.folder, again_names) == (found.folder, names)
        assert not served.requests
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def test_revisions_pins_and_what_overrides_them(served, tree, tmp_path, monkeypatch):
    other, third = (shutil.copytree(tree, tmp_path / name) for name in ("other", "third"))
    save_tensors(other / NAMES[1], {"weight": torch.zeros(9)})
    save_tensors(third / NAMES[1], {"weight": torch.zeros(99)})
    served.add(REPOSITORY, other, revision="b" * 40, refs=("refs/pr/11",))
    served.add(REPOSITORY, third, revision="c" * 40, refs=("v1", "feature/x"))

    def commit(revision=None):
        found, names = names_of(REPOSITORY, revision)
        found.fetch(sorted(names))
        assert found.folder.name == found.revision
        return found.revision[0]

    def commits():
        return [commit(), *map(commit, ("main", "refs/pr/11", "b" * 40, "v1", "feature/x", "c" * 40))]

    assert commits() == list("aabbccc")
    pin({REPOSITORY: Pin(revision="b" * 40)})
    assert commits() == list("babbccc")
    served.close()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert commits() == list("babbccc")


def test_an_unknown_revision_is_named_also_where_the_cache_has_others(served):
    fill_cache()
    for revision in ("v9", "refs/pr/12", "d" * 40):
        with pytest.raises(WeightsNotFound) as missing:
            names_of(REPOSITORY, revision)
        assert f"{REPOSITORY} has no revision {revision}" in missing.value.reason


def test_a_single_file_of_a_repository(served, tree, monkeypatch):
    file = tree.parent / "single"
    save_tensors(file / "v1-5-pruned.safetensors")
    save_tensors(file / "deep" / "er.ckpt")
    served.add("someone/files", file)

    def resolved(weights):
        return resolve(weights, None, lambda found: found.require(found.checkpoint))

    for name in ("v1-5-pruned.safetensors", "deep/er.ckpt"):
        served.forget()
        found, names = resolved(f"someone/files/{name}")
        assert (found.checkpoint, names) == (name, (name,))
        assert found.name == f"someone/files/{name}"
        assert set(found.missing(names)) == {name}
        assert not served.served
        found.fetch(names)
        assert (found.folder / name).exists()
    with pytest.raises(WeightsNotFound, match=r"someone/files has no file other\.ckpt"):
        resolved("someone/files/other.ckpt")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert resolved("someone/files/deep/er.ckpt")[0].checkpoint == "deep/er.ckpt"


def test_weights_of_the_wrong_kind_are_refused_before_the_hub_is_asked_for_more(served):
    fill_cache("*.json")
    served.forget()

    def refuse(found):
        assert found.json(NAMES[0]) == {"width": 3}
        raise UserError("width 3, expected 4")

    with pytest.raises(UserError, match="width 3"):
        resolve(REPOSITORY, None, refuse)
    assert not served.requests


# What is said of them


def test_the_digest_follows_names_and_content_and_not_the_place(tree, tmp_path):
    def digest(folder, names=NAMES):
        source._digest.cache_clear()
        record = folder_source(str(folder), folder).provenance(names)
        assert record["name"] == str(folder)
        return record["sha256"]

    copy = shutil.copytree(tree, tmp_path / "copy")
    assert digest(tree) == digest(copy)
    assert digest(tree, NAMES[:1]) != digest(tree)
    (copy / "README.md").write_text("something else")
    assert digest(copy) == digest(tree)  # not among the selected files
    save_tensors(copy / NAMES[1], {**TENSORS, "bias": torch.zeros(2)})
    assert digest(copy) != digest(tree)


def test_identity_is_by_content_where_it_is_known():
    record = {"name": "/here", "sha256": "x", "lora": [{"name": "y", "sha256": "z"}, {"name": "hub", "revision": "r"}]}
    assert weights_identity(record) == {"sha256": "x", "lora": [{"sha256": "z"}, {"name": "hub", "revision": "r"}]}


def test_json_is_read_once_and_shapes_without_content(tree):
    found = folder_source("x", tree)
    assert found.json(NAMES[0]) == {"width": 3}
    (tree / NAMES[0]).write_text(json.dumps({"width": 4}))
    assert found.json(NAMES[0]) == {"width": 3}
    assert found.shapes(NAMES[1]) == {"weight": (2, 3), "bias": (2,)}
    assert found.matching("unet/*.json") == (NAMES[0],)
    assert found.matching("*.json") == ()
