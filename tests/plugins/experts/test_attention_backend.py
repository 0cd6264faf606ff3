"""Choice of the attention backend."""

import pytest
import torch

from its.errors import UserError
from its_plugins.experts import attention_backend
from its_plugins.experts.attention_backend import check_available, choose_backend, is_available, time_backends
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.random_weights import stable_diffusion as random_weights

CPU = torch.device("cpu")


def expert(folder, **options):
    part = StableDiffusion(weights=str(folder), **options)
    part.prepare()
    part.load()
    return part


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_an_unavailable_backend_is_refused_with_the_available_ones():
    assert is_available("math", device=CPU, dtype=torch.float32)
    assert not is_available("cudnn", device=CPU, dtype=torch.float32)
    with pytest.raises(UserError, match=r"attention is 'cudnn'.* cpu in float32; expected default or .*math"):
        check_available("cudnn", device=CPU, dtype=torch.float32)


def test_fused_backends_are_sorted_by_time():
    calls = [(((1, 2, 32, 8), (1, 2, 32, 8)), 3), (((1, 2, 32, 8), (1, 2, 7, 8)), 2)]
    milliseconds = time_backends(calls, device=CPU, dtype=torch.float32)
    fused = {n for n in ("flash", "cudnn", "efficient") if is_available(n, device=CPU, dtype=torch.float32)}
    assert set(milliseconds) == (fused or {"math"})
    assert list(milliseconds.values()) == sorted(milliseconds.values())


def test_math_is_never_chosen_where_a_fused_backend_is_usable(monkeypatch):
    speed = {"math": 1.0, "flash": 2.0, "efficient": 3.0}
    monkeypatch.setattr(attention_backend, "is_available", lambda name, **_: name in speed)
    monkeypatch.setattr(attention_backend, "_time_call", lambda name, shapes, **_: speed[name])
    assert list(time_backends([(((1,), (1,)), 1)], device=CPU, dtype=torch.float32)) == ["flash", "efficient"]
    monkeypatch.setattr(attention_backend, "is_available", lambda name, **_: name == "math")
    assert list(time_backends([(((1,), (1,)), 1)], device=CPU, dtype=torch.float32)) == ["math"]


def test_the_choice_is_cached_by_calls(monkeypatch):
    timed = []

    def milliseconds(name, shapes, **_):
        timed.append(shapes)
        return 1.0

    monkeypatch.setattr(attention_backend, "_time_call", milliseconds)

    def run(length):
        q, k = torch.zeros(2, 4, length, 8), torch.zeros(2, 4, 7, 8)
        for _ in range(3):
            torch.nn.functional.scaled_dot_product_attention(q, k, k)

    first = choose_backend(lambda: run(16), device=CPU, dtype=torch.float32)
    assert set(timed) == {((2, 4, 16, 8), (2, 4, 7, 8))}
    timed.clear()
    assert choose_backend(lambda: run(16), device=CPU, dtype=torch.float32) == first
    assert not timed
    choose_backend(lambda: run(17), device=CPU, dtype=torch.float32)
    assert timed


def test_backends_agree_and_auto_measures_once(tmp_path, capsys):
    folder = random_weights.stable_diffusion(tmp_path)
    plain = expert(folder)
    z, t, text = torch.randn(1, 4, 8, 16), torch.tensor([500]), plain.encode_text(["bell"])
    expected = plain.predict_noise(z, t, text)
    math, auto = expert(folder, attention="math"), expert(folder, attention="auto")
    capsys.readouterr()
    for other in (math, auto):
        torch.testing.assert_close(other.predict_noise(z, t, text), expected, rtol=1e-4, atol=1e-4)
    assert capsys.readouterr().err.count("its: attention: ") == 1
    auto.predict_noise(z, t, text)
    assert capsys.readouterr().err == ""


def test_an_unavailable_backend_is_refused_when_weights_are_loaded(tmp_path):
    with pytest.raises(UserError, match="attention is 'cudnn'"):
        expert(random_weights.stable_diffusion(tmp_path), attention="cudnn")
