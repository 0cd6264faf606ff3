"""Selection of the runner from device and options."""

from types import SimpleNamespace

import pytest
import torch

from its.diffusion.graphs import CudaGraph, MultiStream
from its.diffusion.sampling import sequential
from its.errors import UserError
from its.methods.speed import MAX_STREAM_BATCH, choose_runner

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
BOTH = [SimpleNamespace(capturable=True)] * 2
ONE = [SimpleNamespace(capturable=True), SimpleNamespace(capturable=False)]


def test_a_cpu_runs_one_expert_after_the_other():
    assert choose_runner(BOTH, device=CPU) is sequential


def test_a_cuda_device_replays_graphs_if_all_experts_allow_it():
    run = choose_runner(BOTH, device=CUDA)
    assert isinstance(run, CudaGraph)
    assert run._run.max_batch == MAX_STREAM_BATCH
    assert choose_runner(ONE, device=CUDA) is sequential
    assert isinstance(choose_runner(ONE, device=CUDA, cuda_graph=True), CudaGraph)


def test_options_can_be_switched_off_and_on():
    assert choose_runner(BOTH, device=CUDA, cuda_graph=False) is sequential
    assert isinstance(choose_runner(BOTH, device=CUDA, cuda_graph=False, streams=True), MultiStream)
    assert choose_runner(BOTH, device=CUDA, streams=False)._run is sequential


@pytest.mark.parametrize("name", ["cuda_graph", "streams"])
def test_what_needs_a_gpu_is_refused_without_one(name):
    with pytest.raises(UserError, match=f"model.{name} is true.* on cpu"):
        choose_runner(BOTH, device=CPU, **{name: True})
