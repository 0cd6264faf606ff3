"""HiFi-GAN against a reference with torch's weight normalisation, and invalid checkpoints."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from weight_files import LFS_POINTER, PICKLES, Code, save_pickle

from its.audio.spectrogram import AUFFUSION
from its.errors import UserError
from its.weights import WeightsNotFound
from its_plugins.vocoders.hifi_gan import HiFiGAN, _fold_weight_norm, write_random_checkpoint

CONFIG: dict[str, Any] = {
    "resblock": "1",
    "upsample_rates": [8, 5, 4],
    "upsample_kernel_sizes": [16, 10, 9],  # kernel - stride is even, odd and odd
    "upsample_initial_channel": 16,
    "resblock_kernel_sizes": [3, 7],
    "resblock_dilation_sizes": [[1, 3, 5], [1, 3, 5]],
    "num_mels": 256,
    "n_fft": 2048,
    "hop_size": 160,
    "win_size": 1024,
    "sampling_rate": 16000,
    "fmin": 0,
    "fmax": 8000,
}


def loaded(folder: Any, **arguments: Any) -> HiFiGAN:
    vocoder = HiFiGAN(weights=str(folder), **arguments)
    vocoder.prepare()
    vocoder.load()
    return vocoder


def spectrogram(rows: int = 2, bands: int = 256, columns: int = 9) -> Tensor:
    return AUFFUSION.to_log_mel(torch.rand(rows, 1, bands, columns, generator=torch.Generator().manual_seed(0)))


def reference(state: dict[str, Tensor], config: dict[str, Any], x: Tensor) -> Tensor:
    """Reference generator, by the paper and the layout of Auffusion's checkpoint."""

    def weight(name: str) -> Tensor:
        return torch._weight_norm(state[f"{name}.weight_v"], state[f"{name}.weight_g"], 0)

    def conv(x: Tensor, name: str, dilation: int = 1) -> Tensor:
        w = weight(name)
        padding = (w.shape[2] * dilation - dilation) // 2
        return functional.conv1d(x, w, state[f"{name}.bias"], padding=padding, dilation=dilation)

    def block(x: Tensor, name: str, dilations: list[int]) -> Tensor:
        for i, dilation in enumerate(dilations):
            if config["resblock"] == "1":
                y = conv(functional.leaky_relu(x, 0.1), f"{name}.convs1.{i}", dilation)
                y = conv(functional.leaky_relu(y, 0.1), f"{name}.convs2.{i}")
            else:
                y = conv(functional.leaky_relu(x, 0.1), f"{name}.convs.{i}", dilation)
            x = x + y
        return x

    x = conv(x, "conv_pre")
    blocks = len(config["resblock_kernel_sizes"])
    for i, (u, k) in enumerate(zip(config["upsample_rates"], config["upsample_kernel_sizes"], strict=True)):
        even = (k - u) % 2 == 0
        x = functional.conv_transpose1d(
            functional.leaky_relu(x, 0.1),
            weight(f"ups.{i}"),
            state[f"ups.{i}.bias"],
            stride=u,
            padding=(k - u) // 2 if even else (k - u) // 2 + 1,
            output_padding=0 if even else 1,
        )
        outputs = [
            block(x, f"resblocks.{i * blocks + j}", dilations)
            for j, dilations in enumerate(config["resblock_dilation_sizes"])
        ]
        x = torch.stack(outputs).mean(0)
    return torch.tanh(conv(functional.leaky_relu(x), "conv_post"))[:, 0]  # slope 0.01, torch's default


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"resblock": "2", "resblock_dilation_sizes": [[1, 3], [1, 2]]},
        {"resblock": 2, "resblock_dilation_sizes": [[1], [2]]},
        {"upsample_rates": [10, 16], "upsample_kernel_sizes": [15, 21]},
    ],
)
def test_equals_the_architecture_written_out(tmp_path, changes):
    config = CONFIG | changes
    write_random_checkpoint(tmp_path / "vocoder", config)
    state = torch.load(tmp_path / "vocoder" / "vocoder.pt", weights_only=True)["generator"]
    sound = loaded(tmp_path)(spectrogram())
    expected = reference(state, config | {"resblock": str(config["resblock"])}, spectrogram())
    assert 0.05 < expected.std() < 0.8  # tanh is not saturated
    assert sound.shape == (2, 9 * 160)
    torch.testing.assert_close(sound, expected, rtol=0, atol=1e-5)


def test_both_kinds_of_weight_normalisation_give_the_same_weights(tmp_path):
    """Names by `torch.nn.utils.weight_norm` and by `torch.nn.utils.parametrizations.weight_norm`."""
    for name in ("old", "new", "plain"):
        write_random_checkpoint(tmp_path / name / "vocoder", CONFIG)
    path = tmp_path / "old" / "vocoder" / "vocoder.pt"
    state = torch.load(path, weights_only=True)["generator"]
    names = {"weight_g": "parametrizations.weight.original0", "weight_v": "parametrizations.weight.original1"}
    new = {}
    for name, tensor in state.items():
        layer, _, last = name.rpartition(".")
        new[f"{layer}.{names.get(last, last)}"] = tensor
    assert new.keys() != state.keys()
    torch.save({"generator": new}, tmp_path / "new" / "vocoder" / "vocoder.pt")
    old, other = loaded(tmp_path / "old"), loaded(tmp_path / "new")
    for name, tensor in old.generator.state_dict().items():
        assert torch.equal(other.generator.state_dict()[name], tensor)
    assert torch.equal(other(spectrogram()), old(spectrogram()))
    torch.save({"generator": old.generator.state_dict()}, tmp_path / "plain" / "vocoder" / "vocoder.pt")
    assert torch.equal(loaded(tmp_path / "plain")(spectrogram()), old(spectrogram()))  # already folded


def test_names_of_torchs_own_parametrization_are_understood(tmp_path):
    layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Conv1d(3, 4, 5))
    names = {f"x.{name}": tensor for name, tensor in layer.state_dict().items()}
    folded = _fold_weight_norm(names)
    assert folded.keys() == {"x.weight", "x.bias"}
    torch.testing.assert_close(folded["x.weight"], layer.weight.detach())


@pytest.mark.parametrize("columns", [1, 2, 31])
def test_each_column_is_160_samples(tmp_path, columns):
    write_random_checkpoint(tmp_path / "vocoder", CONFIG)
    assert loaded(tmp_path)(spectrogram(1, columns=columns)).shape == (1, columns * 160)


def test_format_is_auffusions(tmp_path):
    write_random_checkpoint(tmp_path / "vocoder", CONFIG)
    assert loaded(tmp_path).format == AUFFUSION


def test_format_follows_the_configuration(tmp_path):
    other = {"num_mels": 64, "upsample_rates": [4, 4], "upsample_kernel_sizes": [8, 8], "hop_size": 16}
    other |= {"n_fft": 512, "win_size": 400, "sampling_rate": 8000, "fmin": 20, "fmax": 3800}
    write_random_checkpoint(tmp_path / "vocoder", CONFIG | other)
    vocoder = loaded(tmp_path)
    form = vocoder.format
    assert (form.n_mels, form.hop_length, form.n_fft, form.win_length) == (64, 16, 512, 400)
    assert (form.sample_rate, form.f_min, form.f_max) == (8000, 20, 3800)
    assert (form.floor, form.ceiling) == (AUFFUSION.floor, AUFFUSION.ceiling)
    assert form.name == str(tmp_path)
    assert vocoder(spectrogram(1, bands=64)).shape == (1, 9 * 16)


def test_defaults_of_the_format_are_auffusions(tmp_path):
    sizes = ("n_fft", "hop_size", "win_size", "sampling_rate", "fmin")
    config = {key: value for key, value in CONFIG.items() if key not in sizes} | {"fmax": None}
    write_random_checkpoint(tmp_path / "vocoder", config)
    assert loaded(tmp_path).format == AUFFUSION


def test_stays_in_float32(tmp_path):
    write_random_checkpoint(tmp_path / "vocoder", CONFIG)
    log_mel = spectrogram()
    torch.set_default_dtype(torch.bfloat16)
    try:
        vocoder = loaded(tmp_path)
        sound = vocoder.to(torch.bfloat16)(log_mel)
    finally:
        torch.set_default_dtype(torch.float32)
    assert {p.dtype for p in vocoder.parameters()} == {torch.float32}
    assert torch.equal(sound, loaded(tmp_path)(log_mel))


def test_loading_leaves_the_global_generator_alone(tmp_path):
    write_random_checkpoint(tmp_path / "vocoder", CONFIG)
    before = torch.get_rng_state()
    loaded(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_files_may_lie_in_the_folder_itself(tmp_path):
    write_random_checkpoint(tmp_path / "a" / "vocoder", CONFIG)
    inside, itself = loaded(tmp_path / "a"), loaded(tmp_path / "a" / "vocoder")
    assert torch.equal(inside(spectrogram()), itself(spectrogram()))
    record = itself.provenance()
    assert record is not None
    assert record["name"] == str(tmp_path / "a" / "vocoder")
    assert len(record["sha256"]) == 64


@pytest.mark.parametrize("form", PICKLES)
def test_a_pickle_that_carries_code_is_refused_and_not_run(tmp_path, form):
    write_random_checkpoint(tmp_path / "vocoder", CONFIG)
    trace = tmp_path / "was run"
    save_pickle({"generator": {"conv_pre.bias": Code(trace)}}, tmp_path / "vocoder" / "vocoder.pt", form)
    with pytest.raises(UserError, match=r"vocoder\.pt is damaged, or contains other objects than tensors"):
        loaded(tmp_path)
    assert not trace.exists()


def test_a_damaged_file_is_named(tmp_path):
    write_random_checkpoint(tmp_path / "vocoder", CONFIG)
    path = tmp_path / "vocoder" / "vocoder.pt"
    for damaged in (path.read_bytes()[:1000], b"", b"not found"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"vocoder\.pt .*damaged"):
            loaded(tmp_path)


def test_a_git_lfs_pointer_is_seen_before_the_run_begins(tmp_path):
    write_random_checkpoint(tmp_path / "vocoder", CONFIG)
    for name in ("vocoder.pt", "config.json"):
        (tmp_path / "vocoder" / name).write_bytes(LFS_POINTER)
        with pytest.raises(UserError, match=rf"{name} is a Git LFS pointer.*git lfs pull"):
            HiFiGAN(weights=str(tmp_path)).find()


def test_another_checkpoint_is_named(tmp_path):
    write_random_checkpoint(tmp_path / "vocoder", CONFIG)
    torch.save({"discriminator": {}}, tmp_path / "vocoder" / "vocoder.pt")
    with pytest.raises(UserError, match=r"vocoder\.pt has no entry 'generator'"):
        loaded(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_mels": 64}, r"conv_pre.weight is \(16, 256, 7\), expected \(16, 64, 7\)"),
        ({"resblock": "2"}, r"it lacks resblocks.0.convs.0.weight, and \d+ more"),
        ({"upsample_initial_channel": 32}, r"conv_pre.weight is \(16, 256, 7\), expected \(32, 256, 7\), and \d+ more"),
        ({"resblock_kernel_sizes": [3], "resblock_dilation_sizes": [[1, 3, 5]]}, "is not part of the network|expected"),
    ],
)
def test_a_checkpoint_that_does_not_fit_gives_one_clear_error(tmp_path, changes, message):
    write_random_checkpoint(tmp_path / "vocoder", CONFIG)
    (tmp_path / "vocoder" / "config.json").write_text(json.dumps(CONFIG | changes))
    with pytest.raises(UserError, match=rf"vocoder\.pt does not match .*config\.json: .*({message})") as caught:
        loaded(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json is not JSON"),
        ("[1]", "config.json contains a list; expected a mapping"),
        (json.dumps({k: v for k, v in CONFIG.items() if k != "resblock"}), "config.json lacks resblock: expected"),
        (json.dumps({"_class_name": "x"}), "config.json lacks resblock, upsample_rates, .*num_mels: expected"),
        (json.dumps(CONFIG | {"resblock": "3"}), r"config.json: resblock \(=3\) must be 1 or 2"),
        (
            json.dumps(CONFIG | {"hop_size": 256}),
            r"hop_size \(=256\) must be the product of upsample_rates \(=\[8, 5, 4",
        ),
        (json.dumps(CONFIG | {"upsample_rates": [8, 20]}), "upsample_rates .* and upsample_kernel_sizes .* differ"),
    ],
)
def test_a_wrong_configuration_is_named(tmp_path, text, message):
    write_random_checkpoint(tmp_path / "vocoder", CONFIG)
    (tmp_path / "vocoder" / "config.json").write_text(text)
    with pytest.raises(UserError, match=message):
        HiFiGAN(weights=str(tmp_path)).prepare()


def test_missing_files_are_named(tmp_path):
    write_random_checkpoint(tmp_path / "vocoder", CONFIG)
    (tmp_path / "vocoder" / "vocoder.pt").unlink()
    with pytest.raises(WeightsNotFound, match=r"lacks vocoder/vocoder\.pt"):
        HiFiGAN(weights=str(tmp_path)).prepare()


def test_wrong_order_and_wrong_bands(tmp_path):
    write_random_checkpoint(tmp_path / "vocoder", CONFIG)
    vocoder = HiFiGAN(weights=str(tmp_path))
    with pytest.raises(RuntimeError, match=r"call find\(\) first"):
        _ = vocoder.format
    with pytest.raises(RuntimeError, match=r"call find\(\) or prepare\(\) first"):
        vocoder.load()
    with pytest.raises(RuntimeError, match=r"call prepare\(\) and load\(\)"):
        vocoder(spectrogram())
    with pytest.raises(ValueError, match="got a spectrogram of 64 mel bands, expected 256"):
        loaded(tmp_path)(spectrogram(bands=64))
