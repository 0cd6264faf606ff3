"""Noise depends on a sample's seed alone."""

import os
import subprocess
import sys

import torch

from its.diffusion.noise import generators, initial_noise

SHAPE = (4, 8, 16)


def test_noise_of_a_seed_is_the_same_in_any_batch():
    batch = initial_noise(generators([7, 8, 9]), SHAPE)
    for row, seed in enumerate([7, 8, 9]):
        assert torch.equal(batch[row], initial_noise(generators([seed]), SHAPE)[0])
    assert torch.equal(initial_noise(generators([9, 7]), SHAPE), batch[[2, 0]])


def test_noise_of_other_seeds_is_other_noise():
    one, other = initial_noise(generators([7, 8]), SHAPE)
    assert not torch.allclose(one, other)


def test_noise_is_standard_normal():
    noise = initial_noise(generators([1234]), (4, 64, 256))
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02


def test_noise_leaves_the_global_generator_alone_and_ignores_it():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    one = initial_noise(generators([7]), SHAPE)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(initial_noise(generators([7]), SHAPE), one)


def test_float16_is_the_stream_that_the_authors_drew_from():
    noise = initial_noise(generators([7]), SHAPE, dtype=torch.float16)
    drawn = torch.randn(SHAPE, generator=torch.Generator().manual_seed(7), dtype=torch.float16)
    assert noise.dtype == torch.float32
    assert torch.equal(noise[0], drawn.float())


def test_float16_is_another_stream_than_float32():
    half = initial_noise(generators([7]), SHAPE, dtype=torch.float16)
    assert (half - initial_noise(generators([7]), SHAPE)).abs().mean() > 0.5


def test_defaults_of_torch_do_not_matter():
    expected = initial_noise(generators([7]), SHAPE)
    torch.set_default_dtype(torch.bfloat16)
    try:
        noise = initial_noise(generators([7]), SHAPE)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(noise, expected)
    with torch.device("meta"):
        assert torch.equal(initial_noise(generators([7]), SHAPE), expected)


def test_a_second_draw_of_a_generator_goes_on_where_the_first_ended():
    source = generators([7])
    first, second = initial_noise(source, SHAPE), initial_noise(source, SHAPE)
    assert torch.equal(first, initial_noise(generators([7]), SHAPE))
    assert not torch.allclose(first, second)


def test_processors_without_vector_instructions_draw_the_same_noise_but_for_rounding(tmp_path):
    code = (
        "import sys, torch; from its.diffusion.noise import generators, initial_noise; "
        "torch.save(initial_noise(generators([0, 2**62]), (4, 32, 128)), sys.argv[1])"
    )
    environment = {**os.environ, "ATEN_CPU_CAPABILITY": "default"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "noise.pt"], env=environment, check=True)
    theirs = torch.load(tmp_path / "noise.pt", weights_only=True)
    torch.testing.assert_close(initial_noise(generators([0, 2**62]), (4, 32, 128)), theirs, rtol=0, atol=1e-5)
