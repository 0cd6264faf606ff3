"""CUDA graphs with a simulated capture, and with a real one if there is a GPU."""

import pytest
import torch

from its.diffusion import graphs
from its.diffusion.graphs import CaptureError, CudaGraph, MultiStream
from its.diffusion.guidance import GuidedExpert
from its.diffusion.sampling import denoise, sequential
from its.interfaces import NoiseExpert
from its_plugins.combiners.warm_start_average import WarmStartAverage
from its_plugins.schedulers.ddim import DDIM


class Formula(NoiseExpert):
    """Noise that depends on latents, timestep and text."""

    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    @property
    def latent_space(self):
        return "pixels"

    def encode_text(self, prompts):
        return torch.tensor([[float(len(p))] for p in prompts])

    def predict_noise(self, latents, timestep, text):
        shift = text.sum(1) / 10 + timestep / 1000
        return (latents * self.factor).tanh() + shift.reshape(-1, 1, 1, 1)


def into_the_same_memory(function):
    """Simulate a CUDA graph: replay a function on the same inputs, in the memory of the same outputs."""
    estimates = function()

    def replay():
        for name, value in function().items():
            estimates[name].copy_(value)

    captures.append(replay)
    return estimates, replay


captures = []


@pytest.fixture(autouse=True)
def _no_captures():
    captures.clear()


EXPERTS = {"visual": Formula(0.5), "audio": Formula(-0.7)}


def guided(prompts, scales, device="cpu"):
    def one(expert):
        text, null = expert.encode_text(prompts).to(device), expert.encode_text([""] * len(prompts)).to(device)
        return GuidedExpert(expert, text=text, null_text=null, scales=scales)

    return {name: one(expert) for name, expert in EXPERTS.items()}


def walk(run, prompts, scales=(3.0, 4.0), seed=0, device="cpu"):
    noise = torch.randn(len(prompts), 4, 8, 8, generator=torch.Generator().manual_seed(seed)).to(device)
    combiner = WarmStartAverage(t={"visual": 0.5, "audio": 1.0})
    experts = guided(prompts, list(scales), device)
    return denoise(noise, experts=experts, combiner=combiner, scheduler=DDIM(), steps=6, run=run)


def test_one_graph_for_each_phase_and_the_same_result():
    graphed = CudaGraph(capture=into_the_same_memory)
    assert torch.equal(walk(graphed, ["a", "bb"]), walk(sequential, ["a", "bb"]))
    assert len(captures) == 2  # audio only, then both


def test_later_batches_bring_their_texts_and_scales_into_the_same_graphs():
    graphed = CudaGraph(capture=into_the_same_memory)
    for prompts, scales, seed in (
        (["a", "bb"], (3.0, 4.0), 0),
        (["ccc", "d"], (7.0, 2.0), 1),
        (["a", "bb"], (3.0, 4.0), 2),
    ):
        assert torch.equal(walk(graphed, prompts, scales, seed), walk(sequential, prompts, scales, seed))
    assert len(captures) == 2


@pytest.mark.parametrize(("prompts", "scales"), [(["a"], (3.0,)), (["a", "bb"], (3.0, 1.0)), (["a", "bb"], (1.0, 3.0))])
def test_other_shapes_are_other_graphs(prompts, scales):
    graphed = CudaGraph(capture=into_the_same_memory)
    walk(graphed, ["a", "bb"])
    assert torch.equal(walk(graphed, prompts, scales), walk(sequential, prompts, scales))
    assert len(captures) == 4


def test_estimates_survive_the_next_replay():
    graphed = CudaGraph(capture=into_the_same_memory)
    experts, t = guided(["a"], [3.0]), torch.tensor([500])
    first = graphed(experts, torch.zeros(1, 4, 8, 8), t)["visual"]
    kept = first.clone()
    graphed(experts, torch.ones(1, 4, 8, 8), t)
    assert torch.equal(first, kept)


def test_cleared_graphs_are_captured_anew():
    graphed = CudaGraph(capture=into_the_same_memory)
    walk(graphed, ["a"], (3.0,))
    graphed.clear()
    assert torch.equal(walk(graphed, ["a"], (3.0,)), walk(sequential, ["a"], (3.0,)))
    assert len(captures) == 4


def test_a_failed_capture_runs_without_a_graph():
    def refuse(function):
        function()
        raise CaptureError("operation not permitted when stream is capturing")

    graphed = CudaGraph(capture=refuse)
    with pytest.warns(UserWarning, match="without CUDA graphs.*not permitted"):
        first = walk(graphed, ["a", "bb"])
    assert torch.equal(first, walk(sequential, ["a", "bb"]))
    assert torch.equal(walk(graphed, ["c"], (2.0,)), walk(sequential, ["c"], (2.0,)))  # and no second warning


def test_the_number_of_graphs_is_bounded(monkeypatch):
    monkeypatch.setattr(graphs, "MAX_GRAPHS", 2)
    graphed = CudaGraph(capture=into_the_same_memory)
    for count in range(1, 5):
        prompts, scales = ["a"] * count, (3.0,) * count
        assert torch.equal(walk(graphed, prompts, scales), walk(sequential, prompts, scales))
        assert len(graphed._graphs) <= 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    "run", [CudaGraph(), MultiStream(), CudaGraph(MultiStream())], ids=["graph", "streams", "both"]
)
def test_on_a_gpu_the_results_are_equal(run):
    for seed in range(3):
        plain = walk(sequential, ["a", "bb"], seed=seed, device="cuda")
        assert torch.equal(walk(run, ["a", "bb"], seed=seed, device="cuda"), plain)
