"""Tests of reading weights files without running code, and of damaged files."""

import json

import pytest
import torch
from weight_files import LFS_POINTER, PICKLES, TENSORS, Code, save_pickle, save_tensors, shorten

from its.errors import UserError
from its.weights.files import check_file, load_pickle, read_json, shapes_of, tensors_of

SHAPES = {name: tuple(tensor.shape) for name, tensor in TENSORS.items()}
READERS = [shapes_of, tensors_of]


@pytest.mark.parametrize("name", ["x.safetensors", "x.bin", "x.ckpt", "x.pt"])
@pytest.mark.parametrize("form", ["zip", "legacy"])
def test_all_formats_hold_the_same_tensors(tmp_path, name, form):
    path = tmp_path / name
    save_tensors(path, form=form)
    check_file(path)
    assert shapes_of(path) == SHAPES
    read = tensors_of(path)
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[key], tensor) and read[key].device.type == "cpu" for key, tensor in TENSORS.items())


def test_of_a_training_checkpoint_its_state_dict_is_read(tmp_path):
    path = tmp_path / "x.ckpt"
    save_pickle({"state_dict": {**TENSORS, "epoch": 3}, "lr": 0.1}, path)
    assert tensors_of(path).keys() == TENSORS.keys()
    save_pickle({**TENSORS, "epoch": 3}, path)
    assert tensors_of(path).keys() == TENSORS.keys()


@pytest.mark.parametrize("content", [[torch.ones(2)], torch.ones(2), {"state_dict": [torch.ones(2)]}])
def test_something_else_than_tensors_by_name_is_refused(tmp_path, content):
    path = tmp_path / "x.bin"
    save_pickle(content, path)
    with pytest.raises(UserError, match=r"x\.bin contains a \w+; expected tensors by name"):
        tensors_of(path)


@pytest.mark.parametrize("form", PICKLES)
@pytest.mark.parametrize("name", ["x.bin", "x.ckpt", "x.pt"])
@pytest.mark.parametrize("read", [load_pickle, *READERS])
def test_code_in_a_pickle_is_refused_and_not_run(tmp_path, form, name, read):
    path, trace = tmp_path / name, tmp_path / "was run"
    save_pickle({"state_dict": {**TENSORS, "x": Code(trace)}}, path, form)
    with pytest.raises(UserError) as refused:
        read(path)
    assert str(path) in str(refused.value)
    assert "other objects than tensors" in str(refused.value)
    assert "weights_only" not in str(refused.value)  # torch recommends to disable the protection
    assert not trace.exists()


def test_code_in_a_pickle_is_seen_before_the_whole_is_read(tmp_path):
    path, trace = tmp_path / "x.bin", tmp_path / "was run"
    save_pickle({"x": Code(trace)}, path)
    with pytest.raises(UserError, match="other objects than tensors"):
        check_file(path)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["config.json", "x.safetensors", "x.bin", "x.ckpt"])
def test_a_git_lfs_pointer_is_named_with_its_remedy(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(LFS_POINTER)
    readers = [check_file, *([read_json] if name.endswith("json") else READERS)]
    for read in readers:
        with pytest.raises(UserError, match=r"is a Git LFS pointer.*git lfs pull") as refused:
            read(path)
        assert str(path) in str(refused.value)


@pytest.mark.parametrize("size", [0, 4, 40, -8])
@pytest.mark.parametrize("name", ["x.safetensors", "x.bin"])
def test_a_truncated_file_is_named(tmp_path, name, size):
    path = tmp_path / name
    save_tensors(path)
    path.write_bytes(path.read_bytes()[:size])
    for read in READERS:
        with pytest.raises(UserError, match=r"(?i)get the weights again") as refused:
            read(path)
        assert str(path) in str(refused.value)


def test_truncated_safetensors_are_seen_by_their_beginning(tmp_path):
    path = tmp_path / "x.safetensors"
    save_tensors(path)
    shorten(path)
    with pytest.raises(UserError, match=r"x\.safetensors is a damaged safetensors file"):
        check_file(path)


def test_a_truncated_legacy_pickle_is_named(tmp_path):
    path = tmp_path / "x.bin"
    save_tensors(path, form="legacy")
    shorten(path)
    with pytest.raises(UserError, match=r"x\.bin .*damaged"):
        tensors_of(path)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"{", "is not JSON"),
        (b"", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1]", "contains a list; expected a mapping"),
        (b"null", "contains a NoneType; expected a mapping"),
    ],
)
def test_damaged_json_is_named(tmp_path, content, problem):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    for read in (read_json, check_file):
        with pytest.raises(UserError, match=rf"(?i)config\.json {problem}.*get the weights again"):
            read(path)


def test_json_that_is_not_there_or_a_folder_is_named(tmp_path):
    (tmp_path / "folder.json").mkdir()
    for name in ("none.json", "folder.json"):
        with pytest.raises(UserError, match=rf"{name} can't be read"):
            read_json(tmp_path / name)
    (tmp_path / "x.json").write_text(json.dumps({"a": [1]}))
    assert read_json(tmp_path / "x.json") == {"a": [1]}


def test_mutated_pickles_are_refused_whatever_the_unpickler_raises(tmp_path):
    import random

    source, path = random.Random(0), tmp_path / "x.bin"
    torch.save({"weight": torch.ones(3)}, path)
    whole = path.read_bytes()
    refused = 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(4):
            content[source.randrange(len(content))] = source.randrange(256)
        path.write_bytes(content)
        try:
            load_pickle(path)
        except UserError:
            refused += 1
    assert refused > 30


def test_endings_may_be_upper_case(tmp_path):
    path = tmp_path / "X.SAFETENSORS"
    save_tensors(tmp_path / "x.safetensors")
    (tmp_path / "x.safetensors").rename(path)
    check_file(path)
    assert shapes_of(path).keys() == tensors_of(path).keys()
