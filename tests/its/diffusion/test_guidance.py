"""Classifier-free guidance with a scale for each sample, and the cache of text embeddings."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from its.diffusion.guidance import GuidedExpert, TextCache
from its.interfaces import NoiseExpert

CPU = torch.device("cpu")


class Recorder(NoiseExpert):
    """eps = z + mean(text^2) * t / 1000. Records batch sizes and encoded prompts."""

    latent_space = "dummy"

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[int] = []
        self.encoded: list[str] = []

    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        self.encoded += prompts
        return torch.tensor([[[len(p)] * 3, [p.count("a")] * 3] for p in prompts], dtype=torch.float32)  # (b, 2, 3)

    def predict_noise(self, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
        assert len(latents) == len(timestep) == len(text)
        self.rows.append(len(latents))
        return latents + (text.square().mean((1, 2)) * timestep / 1000).reshape(-1, 1, 1, 1)


PROMPTS = ["a castle", "bell", "a dog barking", "rain"]
NEGATIVE = ["", "noise", "", "a blurry picture"]


def noisy(rows: int = 4) -> tuple[Tensor, Tensor]:
    z = torch.randn(rows, 4, 2, 3, generator=torch.Generator().manual_seed(0))
    return z, torch.arange(1, rows + 1) * 200


def guided(expert: Recorder, scales: Sequence[float]) -> GuidedExpert:
    text, null_text = expert.encode_text(PROMPTS), expert.encode_text(NEGATIVE)
    return GuidedExpert(expert, text=text, null_text=null_text, scales=scales)


@pytest.mark.parametrize(
    "scales", [[7.5, 10.0, 3.0, 2.0], [7.5, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 4.0], [1.0, 1.0, 1.0, 1.0]]
)
def test_each_sample_is_guided_at_its_own_scale(scales):
    expert = Recorder()
    z, t = noisy()
    eps = guided(expert, scales)(z, t)
    for row, gamma in enumerate(scales):
        # Eq. 2, one sample at a time
        one, at = z[[row]], t[[row]]
        eps_null = expert.predict_noise(one, at, expert.encode_text([NEGATIVE[row]]))
        eps_text = expert.predict_noise(one, at, expert.encode_text([PROMPTS[row]]))
        torch.testing.assert_close(eps[[row]], eps_null + gamma * (eps_text - eps_null), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("scales", "rows"),
    [([7.5, 7.5, 7.5, 7.5], 8), ([7.5, 1.0, 7.5, 1.0], 6), ([1.0, 1.0, 1.0, 1.0], 4), ([0.0, 1, 1, 1], 5)],
)
def test_samples_at_scale_one_cost_one_row_in_one_call(scales, rows):
    expert = Recorder()
    guided(expert, scales)(*noisy())
    assert expert.rows == [rows]


def test_batch_equals_singles():
    scales = [7.5, 1.0, 3.0, 10.0]
    expert = Recorder()
    z, t = noisy()
    batch = guided(expert, scales)(z, t)
    text, null_text = expert.encode_text(PROMPTS), expert.encode_text(NEGATIVE)
    for row in range(4):
        at = slice(row, row + 1)
        alone = GuidedExpert(expert, text=text[at], null_text=null_text[at], scales=scales[at])
        torch.testing.assert_close(batch[at], alone(z[at], t[at]), rtol=0, atol=1e-5)


def test_dtype_of_the_estimate_is_kept():
    z, t = noisy()
    expert = Recorder()
    expert_text = expert.encode_text(PROMPTS).to(torch.bfloat16)
    half = GuidedExpert(expert, text=expert_text, null_text=expert_text, scales=[7.5, 1.0, 2.0, 1.0])
    assert half(z.to(torch.bfloat16), t.to(torch.bfloat16)).dtype == torch.bfloat16


def test_no_prompt_is_encoded_twice():
    expert = Recorder()
    cache = TextCache(expert)
    first = cache(["bell", "", "bell", "rain"], CPU)
    assert expert.encoded == ["bell", "", "rain"]
    again = cache(["rain", "a dog", "bell"], CPU)
    assert expert.encoded == ["bell", "", "rain", "a dog"]
    assert torch.equal(first, Recorder().encode_text(["bell", "", "bell", "rain"]))
    assert torch.equal(again, Recorder().encode_text(["rain", "a dog", "bell"]))


def test_texts_are_moved_to_the_device():
    assert TextCache(Recorder())(["bell"], torch.device("meta")).device.type == "meta"


def test_without_guidance_the_text_alone_is_asked():
    expert = Recorder()
    z, t = noisy()
    plain = guided(expert, [7.5, 1.0, 3.0, 2.0]).unguided()
    expert.rows.clear()
    assert torch.equal(plain(z, t), expert.predict_noise(z, t, expert.encode_text(PROMPTS)))
    assert expert.rows[0] == 4  # no unconditional rows


def test_texts_that_were_not_asked_for_the_longest_are_forgotten():
    expert = Recorder()
    cache = TextCache(expert, max_bytes=2 * expert.encode_text(["a"]).nbytes)
    expert.encoded.clear()
    cache(["a", "b"], CPU)
    cache(["a"], CPU)
    cache(["c"], CPU)  # evicts b
    expert.encoded.clear()
    cache(["a", "c"], CPU)
    assert expert.encoded == []
    assert len(cache(["b", "d", "e"], CPU)) == 3  # more at once than fit into the cache
    assert expert.encoded == ["b", "d", "e"]


def test_the_memory_of_forgotten_texts_is_free():
    """A cached embedding must not keep the memory of its batch."""
    expert = Recorder()
    cache = TextCache(expert, max_bytes=expert.encode_text(["a"]).nbytes)
    cache([str(number) for number in range(50)], CPU)
    (kept,) = cache._cache.values()
    assert kept.untyped_storage().nbytes() == kept.nbytes


def test_rescaled_guidance_has_the_standard_deviation_of_the_conditional_estimate_in_v():
    """Arithmetic of Lin et al., Section 3.4, one sample at a time, with v and eps converted by their definitions."""
    expert, scales = Recorder(), [7.5, 1.0, 3.0, 12.0]
    z, t = noisy()
    plain, conditional = guided(expert, scales)(z, t), guided(expert, [1.0] * 4)(z, t)
    text, null_text = expert.encode_text(PROMPTS), expert.encode_text(NEGATIVE)
    for phi in (0.7, 1.0):
        eps = GuidedExpert(expert, text=text, null_text=null_text, scales=scales, rescale=phi)(z, t)
        for row in range(4):
            alpha = expert.alphas()[t[row]]
            signal, sigma = alpha.sqrt(), (1 - alpha).sqrt()

            def v_of(noise, row=row, signal=signal, sigma=sigma):
                return signal * noise - sigma * (z[row] - sigma * noise) / signal

            v_text, v_cfg = v_of(conditional[row]), v_of(plain[row])
            v = phi * v_cfg * v_text.std() / v_cfg.std() + (1 - phi) * v_cfg
            torch.testing.assert_close(v_of(eps[row]), v, rtol=1e-3, atol=1e-3)
