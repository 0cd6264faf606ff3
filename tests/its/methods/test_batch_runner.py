"""The batch size that fits into memory is cached between runs."""

from types import SimpleNamespace

import pytest
import torch

from its.methods.batch_runner import BatchRunner
from its.methods.sample import Sample
from its.specs.spec import SampleSpec

GIB = 2**30


class Method:
    """Runs out of memory at more than two samples."""

    fixed_shapes = half_precision = False
    memory_key = "method"
    device = torch.device("cuda", 0)

    def __init__(self):
        self.tried = []

    def batch_key(self, spec):
        return ""

    def make(self, specs):
        self.tried.append(len(specs))
        if len(specs) > 2:
            raise torch.OutOfMemoryError("too much")
        return [Sample(spec=spec, result=SimpleNamespace()) for spec in specs]

    def release(self):
        pass


@pytest.fixture
def free(tmp_path, monkeypatch):
    """Simulate a CUDA device; returns a function that sets its free memory in GiB."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def set_free(gib):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (gib * GIB, 80 * GIB))

    set_free(8)
    return set_free


def run(key="method"):
    """Return the batch sizes that a new runner tries for eight samples."""
    method = Method()
    method.memory_key = key
    runner = BatchRunner(method)
    runner.load()
    spec = SampleSpec(prompts={}, negative_prompts={}, guidance_scale={}, seed=0, source="test")
    assert len(runner([spec] * 8)) == 8
    return method.tried


def test_the_largest_batch_is_remembered_for_device_method_and_free_memory(free):
    with pytest.warns(UserWarning, match="out of memory"):
        assert run() == [8, 4, 2, 2, 2, 2]
    assert run() == [2, 2, 2, 2]
    with pytest.warns(UserWarning, match="out of memory"):
        assert run("another method")[0] == 8
    free(40)
    with pytest.warns(UserWarning, match="out of memory"):
        assert run()[0] == 8
