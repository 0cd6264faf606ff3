"""Which kernel computes attention."""

import pytest
import torch

from its.errors import UserError
from its_plugins.experts.attention_backend import fastest, require, usable
from its_plugins.experts.stable_diffusion import StableDiffusion
from its_plugins.random_weights import stable_diffusion as random_weights

CPU = torch.device("cpu")


def expert(folder, **options):
    part = StableDiffusion(weights=str(folder), **options)
    part.prepare()
    part.load()
    return part


def test_what_can_not_be_had_here_names_what_can():
    assert usable("math", device=CPU, dtype=torch.float32)
    assert not usable("cudnn", device=CPU, dtype=torch.float32)
    with pytest.raises(UserError, match=r"attention is 'cudnn', which can't be had on cpu in float32: take .*or math"):
        require("cudnn", device=CPU, dtype=torch.float32)


def test_the_timed_ones_are_the_usable_ones_fastest_first():
    seconds = fastest(lambda: torch.ones(10).sum(), device=CPU, dtype=torch.float32)
    assert set(seconds) == {
        n for n in ("flash", "cudnn", "efficient", "math") if usable(n, device=CPU, dtype=torch.float32)
    }
    assert list(seconds.values()) == sorted(seconds.values())


def test_all_kernels_agree_and_auto_decides_once(tmp_path, capsys):
    folder = random_weights.stable_diffusion(tmp_path)
    plain = expert(folder)
    z, t, text = torch.randn(1, 4, 8, 16), torch.tensor([500]), plain.encode_text(["bell"])
    expected = plain.predict_noise(z, t, text)
    for name in ("math", "auto"):
        torch.testing.assert_close(
            expert(folder, attention=name).predict_noise(z, t, text), expected, rtol=1e-4, atol=1e-4
        )
    auto = expert(folder, attention="auto")
    capsys.readouterr()
    auto.predict_noise(z, t, text)
    assert "its: attention: " in capsys.readouterr().err
    auto.predict_noise(z, t, text)
    assert capsys.readouterr().err == ""


def test_a_kernel_that_is_not_there_is_said_when_weights_are_loaded(tmp_path):
    with pytest.raises(UserError, match="attention is 'cudnn'"):
        expert(random_weights.stable_diffusion(tmp_path), attention="cudnn")
