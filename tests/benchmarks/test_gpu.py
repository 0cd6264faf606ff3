"""benchmarks/gpu.py on small models, without a GPU and with a simulated one."""

import contextlib
import json
import time
import zipfile
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
NO_GPU = {"CUDA_VISIBLE_DEVICES": ""}
SCRIPT = ROOT / "benchmarks" / "gpu.py"
SMALL = ("--tiny", "--no-compile", "--rounds", "1", "--dtype", "float32")


@pytest.fixture(scope="module")
def weights(tmp_path_factory, forks):
    folder = tmp_path_factory.mktemp("weights")
    forks.run([SCRIPT, *SMALL, "--write-weights", folder], NO_GPU, program="script")
    return folder


def figures_of(path, part="compare"):
    return json.loads(path.read_text(encoding="utf-8"))["parts"][part]["figures"]


@pytest.mark.slow
def test_runs_to_its_end_at_tiny_size(tmp_path, forks, weights):
    out = tmp_path / "gpu.json"
    names = ("authors", "informed user", "ours, plain, batch 1", "ours, batch 3", "ours, 5 steps, batch 3",
             "authors, float32", "eager", "+ CUDA graph")  # fmt: skip
    options = (*SMALL, "--weights", weights, "--out", out, "--variants", *names)
    forks.run([SCRIPT, *options], NO_GPU, program="script")
    results = json.loads(out.read_text(encoding="utf-8"))
    assert list(results["parts"]) == ["ceilings", "compare", "levers"]
    assert results["settings"]["tiny"]
    compared = figures_of(out)
    for name in names[:4]:
        assert compared[f"{name} | samples/s"]["value"] > 0
        assert 0 <= compared[f"{name} | error"]["value"] < 1e-4
        assert compared[f"{name} | memory"] == "needs a GPU"
    assert compared["ours, 5 steps, batch 3 | over the authors'"]["value"] > 0
    # Written independently of ours, but equal up to rounding: both do the same work.
    assert compared["authors, float32 | error"]["value"] < 1e-4
    levers = figures_of(out, "levers")
    assert levers["eager | samples/s"]["value"] > 0
    assert levers["+ CUDA graph | samples/s"] == "needs a GPU"


def test_without_a_gpu_the_script_fails_with_a_message(forks):
    assert forks.wait(forks.start([SCRIPT], NO_GPU, program="script")) == [2]
    assert "no CUDA device" in forks.log.read_text()


def test_weights_of_other_options_are_refused(capsys, weights):
    import gpu

    assert gpu.main([*SMALL[:-1], "bfloat16", "--weights", str(weights)]) == 2
    assert "with dtype torch.float32; expected tiny True, dtype torch.bfloat16" in capsys.readouterr().err
    assert gpu.main([*SMALL, "--weights", str(weights), "--variants", "authors", "ours"]) == 2
    assert "unknown variant 'ours'; expected some of: authors; ours, plain, batch 1;" in capsys.readouterr().err


@pytest.fixture
def simulated(monkeypatch):
    """A CPU in the role of a GPU. Replaying a graph computes it again."""
    from devices import Device

    from its.diffusion import graphs
    from its.diffusion.sampling import sequential
    from its.methods import speed
    from its.methods.base import Method

    class Simulated(Device):
        has_graphs = True
        captured = 0
        warned = 0

        def allocated(self):
            return 2**30

        def peak(self):
            return 3 * 2**30

        def warn_of_waits(self, on):
            self.warned += on

        @contextlib.contextmanager
        def waits(self):
            before = self.warned
            yield lambda: self.warned - before

        def launches(self, run):
            run()
            return 100

    device = Simulated()

    def capture(function):
        device.captured += 1
        results = function()

        def replay():
            for name, tensor in function().items():
                results[name].copy_(tensor)

        return results, replay

    monkeypatch.setattr(graphs, "_CudaCapture", lambda: capture)
    monkeypatch.setattr(speed, "MultiStream", lambda **options: sequential)
    # As on a GPU, the method's device is set only when the module is moved.
    monkeypatch.setattr(Method, "target", property(lambda method: torch.device("cuda" if method.moved else "cpu")))
    monkeypatch.setattr(Method, "moved", False, raising=False)
    move = Method.to

    def to(method, *args, **options):
        method.moved = True
        return move(method, *args, **options)

    monkeypatch.setattr(Method, "to", to)
    return device


def run(device, tmp_path, *arguments):
    import gpu

    return gpu.run(gpu._options([*SMALL, "--out", str(tmp_path / "gpu.json"), *arguments]), device, tmp_path)


@pytest.mark.slow
def test_with_graphs_and_streams_everything_is_measured(simulated, tmp_path, weights):
    status = run(simulated, tmp_path, "compare", "levers", "--weights", str(weights), "--variants", "authors",
                 "ours, plain, batch 1", "ours, batch 3", "ours, eager, batch 1", "eager", "+ CUDA graph",
                 "+ compile")  # fmt: skip
    assert status == 0
    assert simulated.captured == 6, "two phases of the warm start, of three methods"
    compared, levers = figures_of(tmp_path / "gpu.json"), figures_of(tmp_path / "gpu.json", "levers")
    assert compared["ours, eager, batch 1 | bits equal to ours, plain, batch 1"] == "yes"
    assert compared["ours, plain, batch 1 | launches a step"]["value"] == 0, "as many in 10 steps as in 20"
    assert compared["authors | host waits in the loop"]["value"] == 1, "reported from the first step to the last"
    assert compared["ours, batch 3 | memory"]["value"] == pytest.approx(2, abs=0.01)  # what is more, and the weights
    assert levers["+ CUDA graph | over the line before"]["value"] > 0
    assert levers["+ compile | samples/s"] == "left out (--no-compile)"


def test_a_variant_that_fails_costs_only_its_own_figures(simulated, tmp_path, weights, monkeypatch, capsys):
    import comparison

    written = []
    make = comparison.of_ours

    def broken(method, **options):
        if options["batch"] == 3:
            written.append(figures_of(tmp_path / "gpu.json"))
            raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 3 GiB")
        return make(method, **options)

    monkeypatch.setattr(comparison, "of_ours", broken)
    names = ("authors", "ours, batch 1", "ours, batch 3", "ours, batch 2")
    assert run(simulated, tmp_path, "compare", "--weights", str(weights), "--variants", *names) == 1
    figures = figures_of(tmp_path / "gpu.json")
    text = "failed: OutOfMemoryError: CUDA out of memory. Tried to allocate 3 GiB"
    assert figures["ours, batch 3 | samples/s"] == text
    assert f"gpu.py: ours, batch 3: {text}" in capsys.readouterr().err
    assert figures["ours, batch 2 | over the authors'"]["value"] > 0
    (before,) = written
    assert before["ours, batch 1 | ms a step"]["value"] > 0, "written before the next one began"
    assert "ours, batch 2 | samples/s" not in before


def test_variants_that_do_not_fit_into_the_time_are_not_begun():
    from budget import RESERVE, Budget, Candidate

    now = [0.0]
    budget = Budget(100 + RESERVE, clock=lambda: now[0])
    first = Candidate(name="first", program="a", prepare=10, run=5)
    second = Candidate(name="second", program="b", prepare=40, run=10)
    assert budget.needs(second, [first], 3) == 40 + 3 * (10 + 5)
    budget.learn(first, prepare=20, run=10)  # twice as slow as the table says
    now[0] = 20.0
    assert budget.needs(second, [first], 3) == 80 + 3 * (20 + 10) > budget.left() == 80
    compiled = Candidate(name="third", program="c", prepare=40, run=1, compiles=True)
    assert budget.prepare(compiled) == 40, "what compiles is corrected by what compiles"
    assert Budget(None).left() == float("inf")


def test_calls_that_take_too_long_are_interrupted():
    from budget import Budget, TooLongError

    begin = time.monotonic()

    def compiles():
        while time.monotonic() - begin < 20:
            with contextlib.suppress(Exception):  # as compilers do, which fall back to something else
                time.sleep(20)

    with pytest.raises(TooLongError, match="stopped after 0 s"), Budget(None).limit(0.05):
        compiles()
    assert time.monotonic() - begin < 10
    with Budget(None).limit(0.05):
        pass
    time.sleep(0.1)  # nothing is raised any more


def test_wheels_are_imported_from_their_folder(tmp_path, monkeypatch):
    import environment

    with zipfile.ZipFile(tmp_path / "brought-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("brought/__init__.py", "answer = 42")
        wheel.writestr("brought-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    environment.use_wheels(tmp_path)
    import brought

    assert brought.answer == 42
    from importlib.metadata import version

    assert version("brought") == "1.0"


def test_a_folder_without_wheels_is_refused(tmp_path):
    import environment

    with pytest.raises(SystemExit, match=r"--wheels .* expected .*\.whl"):
        environment.use_wheels(tmp_path)
