"""Tests of pretrained components: checked before the download, and read once."""

import pytest
from torch import nn
from weight_files import LFS_POINTER, save_tensors, shorten

from its.errors import UserError
from its.weights import PretrainedComponent, WeightsNotFound
from its.weights.files import tensors_of

REPOSITORY = "someone/model"
UNET, CONFIG = "unet/diffusion_pytorch_model.safetensors", "unet/config.json"


class Tiny(PretrainedComponent):
    """Component with a network of width 3."""

    def __init__(self, *, weights=REPOSITORY, revision=None, width=3):
        super().__init__(weights=weights, revision=revision)
        self.width = width
        self.reads = 0

    def select(self, source):
        names = source.require(CONFIG, UNET)
        if (width := source.json(CONFIG)["width"]) != self.width:
            raise UserError(f"{source.name} has width {width}, expected {self.width}")
        return names

    def read(self):
        self.reads += 1
        self.weight = tensors_of(self.folder / UNET)["weight"]


class Single(Tiny):
    """Component that also reads a single file."""

    reads_checkpoints = True

    def select(self, source):
        return source.require(source.checkpoint) if source.checkpoint else super().select(source)


def test_finding_downloads_small_files_alone(served, tree):
    part = Tiny()
    for _ in range(2):
        (wanted,) = part.find()
        assert dict(wanted.sizes) == {UNET: (tree / UNET).stat().st_size}
    assert set(served.served) == {(REPOSITORY, CONFIG)}
    assert part.files == (CONFIG, UNET)
    assert part.folder.name == "a" * 40
    assert part.provenance() == {"name": REPOSITORY, "revision": "a" * 40, "files": [UNET]}


def test_prepared_once_and_read_once(served):
    part = Tiny()
    part.prepare()
    assert set(served.served) == {(REPOSITORY, CONFIG), (REPOSITORY, UNET)}
    assert part.find() == []
    served.forget()
    part.prepare()
    for _ in range(2):
        part.load()
    assert (part.reads, part.weight.shape) == (1, (2, 3))
    assert not served.requests


def test_before_find_nothing_is_known():
    part = Tiny()
    for ask in (lambda: part.source, lambda: part.folder, lambda: part.files, part.provenance, part.load):
        with pytest.raises(RuntimeError, match=rf"Tiny: call .*prepare\(\).* {REPOSITORY}"):
            ask()


def test_another_kind_of_model_is_refused_before_its_weights_are_downloaded(served):
    with pytest.raises(UserError, match=f"{REPOSITORY} has width 3, expected 4"):
        Tiny(width=4).find()
    assert set(served.served) == {(REPOSITORY, CONFIG)}


def test_a_file_where_a_folder_is_expected_and_the_reverse(tree):
    with pytest.raises(UserError, match=r"is a file, but Tiny reads a folder: use the folder"):
        Tiny(weights=str(tree / UNET)).find()
    part = Single(weights=str(tree / UNET))
    assert part.find() == []
    assert part.files == (UNET.rpartition("/")[2],)
    with pytest.raises(WeightsNotFound, match="lacks unet/config.json"):
        Single(weights=str(tree / "scheduler")).find()


def test_a_file_of_a_repository_is_refused_by_a_component_that_reads_folders(served):
    with pytest.raises(UserError, match="is a file, but Tiny reads a folder"):
        Tiny(weights=f"{REPOSITORY}/{UNET}").find()
    assert not served.served
    (wanted,) = Single(weights=f"{REPOSITORY}/{UNET}").find()
    assert list(wanted.sizes) == [UNET]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shorten, "is a damaged safetensors file"),
        (lambda path: path.write_bytes(LFS_POINTER), "is a Git LFS pointer.*git lfs pull"),
        (lambda path: path.write_bytes(b""), "is a damaged safetensors file"),
    ],
)
@pytest.mark.parametrize("where", ["folder", "cache", "hub"])
def test_damage_is_named_before_anything_is_read(hub, tree, damage, message, where):
    if where != "hub":
        hub.add(REPOSITORY, tree)
        Tiny().prepare()
    part = Tiny(weights=str(tree)) if where == "folder" else Tiny()
    if where == "cache":
        part.find()
        path = (part.folder / UNET).resolve()
        part = Tiny()
    else:
        path = tree / UNET
    damage(path)
    if where == "hub":
        hub.add(REPOSITORY, tree)
    with pytest.raises(UserError, match=message) as error:
        part.prepare()
    assert str(part.folder / UNET) in str(error.value)
    assert part.reads == 0


def test_components_within_are_found_prepared_and_loaded(served, tree, tmp_path):
    class Outer(Single):
        def __init__(self, inner):
            super().__init__(weights=str(tmp_path / "alone.safetensors"))
            self.inner = nn.ModuleDict({"a": inner})

        def read(self):
            assert self.inner["a"].reads == 1  # inner components are loaded first

    save_tensors(tmp_path / "alone.safetensors")
    outer = Outer(inner := Tiny())
    (wanted,) = outer.find()
    assert list(wanted.sizes) == [UNET]
    outer.prepare()
    outer.load()
    assert inner.reads == 1
