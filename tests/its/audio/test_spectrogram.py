"""Conversions of SpectrogramFormat, compared with formulas and with torchaudio."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torchaudio.functional import melscale_fbanks

from its.audio.spectrogram import AUFFUSION, SpectrogramFormat
from its_plugins.experts.riffusion import RIFFUSION, RIFFUSION_STEREO

SMALL = SpectrogramFormat(
    name="small",
    sample_rate=8000,
    n_fft=512,
    win_length=400,
    hop_length=100,
    n_mels=40,
    f_min=50.0,
    f_max=3800.0,
    floor=1e-4,
    ceiling=50.0,
)
SMALL_POWER = replace(
    SMALL,
    name="small, inverted power",
    hop_length=101,
    epsilon=1e-20,
    mel_scale="htk",
    mel_norm=None,
    power=0.25,
    silence=1,
)
FORMATS = pytest.mark.parametrize("form", [AUFFUSION, SMALL, SMALL_POWER], ids=lambda form: form.name)


def tone(hertz: float, *, form: SpectrogramFormat = AUFFUSION, frames: int = 20) -> Tensor:
    n = torch.arange(frames * form.hop_length, dtype=torch.float64)
    return (0.5 * torch.sin(2 * math.pi * hertz * n / form.sample_rate)).float()[None]


def uniform(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


@FORMATS
def test_picture_to_log_mel_and_back(form):
    picture = uniform(2, 1, form.n_mels, 12)
    torch.testing.assert_close(form.to_picture(form.to_log_mel(picture)), picture, rtol=0, atol=1e-5)


@FORMATS
def test_log_mel_to_picture_and_back(form):
    low, high = math.log(form.floor), math.log(form.ceiling)
    log_mel = low + (high - low) * uniform(2, form.n_mels, 12)
    torch.testing.assert_close(form.to_log_mel(form.to_picture(log_mel)), log_mel, rtol=0, atol=1e-5)


def test_black_is_the_floor_and_white_the_ceiling():
    black_and_white = torch.tensor([0.0, 1.0]).reshape(2, 1, 1, 1).expand(2, 1, 256, 3)
    log_mel = AUFFUSION.to_log_mel(black_and_white)
    torch.testing.assert_close(log_mel[0], torch.full((256, 3), math.log(1e-5)))
    torch.testing.assert_close(log_mel[1], torch.full((256, 3), math.log(200.0)), rtol=0, atol=1e-5)


def test_row_0_is_the_highest_band():
    picture = torch.zeros(1, 1, 256, 3)
    picture[:, :, 0] = 1
    log_mel = AUFFUSION.to_log_mel(picture)
    assert log_mel[0, :, 0].argmax() == 255
    assert AUFFUSION.to_picture(log_mel)[0, 0, :, 0].argmax() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_pictures_are_denormalised_in_float32(dtype):
    picture = uniform(1, 1, 256, 4).to(dtype)
    log_mel = AUFFUSION.to_log_mel(picture)
    assert log_mel.dtype == torch.float32
    assert torch.equal(log_mel, AUFFUSION.to_log_mel(picture.float()))


def band_of(hertz: float, form: SpectrogramFormat) -> int:
    """Band with the nearest centre on Slaney's scale: linear to 1 kHz, then 27 mel for a factor of 6.4."""

    def mel(f: float) -> float:
        return f * 3 / 200 if f < 1000 else 15 + 27 * math.log(f / 1000) / math.log(6.4)

    low, high = mel(form.f_min), mel(form.f_max)
    return round((mel(hertz) - low) / (high - low) * (form.n_mels + 1)) - 1


@pytest.mark.parametrize("hertz", [100.0, 440.0, 997.0, 1500.0, 3000.0, 5000.0, 7500.0])
def test_a_tone_lands_in_its_row(hertz):
    picture = AUFFUSION.to_picture(AUFFUSION.log_mel(tone(hertz)))
    row = int(picture[0, 0, :, 10].argmax())
    assert abs(row - (255 - band_of(hertz, AUFFUSION))) <= 1


def test_higher_tones_stand_higher_in_the_picture():
    rows = [
        int(AUFFUSION.to_picture(AUFFUSION.log_mel(tone(hertz)))[0, 0, :, 10].argmax())
        for hertz in (200.0, 800.0, 3200.0)
    ]
    assert rows == sorted(rows, reverse=True)
    assert len(set(rows)) == 3


@FORMATS
def test_log_mel_equals_the_formula_written_out(form):
    """Each frame by hand: centred window, DFT matrix, filterbank, log."""
    frames = 13
    sound = uniform(1, frames * form.hop_length).double() - 0.5
    pad = (form.n_fft - form.hop_length) // 2
    end = form.n_fft - form.hop_length - pad
    mirrored = torch.cat([sound[:, 1 : pad + 1].flip(1), sound, sound[:, -end - 1 : -1].flip(1)], 1)[0]
    k = torch.arange(form.n_fft // 2 + 1, dtype=torch.float64)
    n = torch.arange(form.n_fft, dtype=torch.float64)
    dft = torch.exp(-2j * math.pi * torch.outer(k, n) / form.n_fft)
    i = torch.arange(form.win_length, dtype=torch.float64)
    window = torch.zeros(form.n_fft, dtype=torch.float64)
    side = (form.n_fft - form.win_length) // 2
    window[side : side + form.win_length] = 0.5 - 0.5 * torch.cos(2 * math.pi * i / form.win_length)
    expected = []
    for frame in range(frames):
        start = frame * form.hop_length
        spectrum = dft @ (window * mirrored[start : start + form.n_fft]).to(torch.complex128)
        magnitude = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + form.epsilon)
        mel = magnitude @ form.filterbank().double()
        expected.append(torch.log(torch.clamp(mel, min=form.floor)))
    result = form.log_mel(sound.float())
    torch.testing.assert_close(result[0].double(), torch.stack(expected, 1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("form", [AUFFUSION, SMALL, SMALL_POWER, RIFFUSION], ids=lambda form: form.name)
def test_filterbank_is_torchaudios(form):
    expected = melscale_fbanks(
        n_freqs=form.n_fft // 2 + 1,
        f_min=form.f_min,
        f_max=form.f_max,
        n_mels=form.n_mels,
        sample_rate=form.sample_rate,
        norm=form.mel_norm,
        mel_scale=form.mel_scale,
    )
    # torchaudio's edges are float32: off by 1e-3 Hz at 10 kHz, on slopes of up to 1 per 4 Hz without normalisation.
    torch.testing.assert_close(form.filterbank(), expected, rtol=0, atol=2e-6 if form.mel_norm else 2e-4)


def test_one_triangle_of_the_filterbank_by_hand():
    """Band 0 of Auffusion: its edges are 0, 1 and 2 257ths of 45.25 mel, 11.7 Hz apart."""
    mel_8k = 15 + 27 * math.log(8) / math.log(6.4)
    edge = mel_8k / 257 * 200 / 3
    bins = [index * 16000 / 2048 for index in range(4)]  # 0, 7.8, 15.6, 23.4 Hz
    expected = [max(0.0, min(f / edge, 2 - f / edge)) * 2 / (2 * edge) for f in bins]
    assert AUFFUSION.filterbank()[:4, 0].tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("form", "condition"), [(AUFFUSION, 4.78), (RIFFUSION, 6.56)], ids=lambda form: str(form)[:30])
def test_filterbank_can_be_inverted(form, condition):
    values = torch.linalg.svdvals(form.filterbank().double())
    assert len(values) == form.n_mels
    assert values[0] / values[-1] == pytest.approx(condition, abs=0.01)


@pytest.mark.parametrize("n", [1600, 1601, 1759, 1760, 16000])
def test_number_of_frames_is_samples_by_hop(n):
    assert AUFFUSION.log_mel(torch.zeros(2, n)).shape == (2, 256, n // 160)


def test_silence_is_the_floor_of_what_is_added_under_the_root():
    log_mel = AUFFUSION.log_mel(torch.zeros(1, 1600))
    expected = (AUFFUSION.filterbank().sum(0) * math.sqrt(1e-9)).clamp(min=1e-5).log()
    torch.testing.assert_close(log_mel[0, :, 0], expected)


def test_a_batch_equals_its_samples():
    sounds = 0.1 * torch.randn(3, 3200, generator=torch.Generator().manual_seed(0))
    batch = AUFFUSION.log_mel(sounds)
    singles = torch.cat([AUFFUSION.log_mel(sound[None]) for sound in sounds])
    torch.testing.assert_close(batch, singles, rtol=0, atol=1e-5)


def test_defaults_of_torch_do_not_matter():
    """Lightning changes the default dtype and the default device."""
    form = replace(AUFFUSION, name="not in the cache yet")
    sound = tone(440.0)
    expected = AUFFUSION.log_mel(sound)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device("meta"):
            form.filterbank()
        result = form.log_mel(sound)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(result, expected)


def test_gradients_flow_also_after_a_first_use_in_inference_mode():
    form = replace(AUFFUSION, name="first used in inference mode")
    with torch.inference_mode():
        form.log_mel(tone(440.0))
    sound = tone(440.0).requires_grad_()
    form.log_mel(sound).sum().backward()
    assert sound.grad is not None
    assert sound.grad.isfinite().all()


def test_riffusion_gray_is_the_formula_of_its_authors():
    """((255 - pixel) / 255)^4 * 30e6 in 16-bit samples; dark is loud."""
    pixels = torch.arange(256, dtype=torch.float64)
    expected = ((255 - pixels) / 255) ** 4 * 30e6 / 32768
    columns = (pixels / 255).float().expand(1, 1, 512, 256)
    found = RIFFUSION.to_log_mel(columns).exp()[0, 0].double()
    assert (found - expected).abs().max() / expected.max() < 1e-4  # the floor is above 0
    grays = 255 * (1 - (found * 32768 / 30e6) ** 0.25)  # as the authors draw it
    assert (grays - pixels).abs().max() < 0.06


@pytest.mark.parametrize("form", [AUFFUSION, RIFFUSION, RIFFUSION_STEREO, SMALL_POWER], ids=lambda form: form.name)
def test_silence_is_the_gray_of_the_floor_and_the_ceiling_is_the_other(form):
    channels = 1 if form.channels == 1 else 3
    for gray, magnitude in ((form.silence, form.floor), (1 - form.silence, form.ceiling)):
        log_mel = form.to_log_mel(torch.full((1, channels, form.n_mels, 2), float(gray)))
        torch.testing.assert_close(log_mel, torch.full_like(log_mel, math.log(magnitude)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("form", "tolerance"), [(AUFFUSION, 0.06), (RIFFUSION, 0.5 / 255)], ids=["Auffusion", "Riffusion"]
)
def test_no_sound_is_drawn_as_silence(form, tolerance):
    picture = form.to_picture(form.log_mel(torch.zeros(1, 40 * form.hop_length)))
    assert (picture - form.silence).abs().max() < tolerance


def test_riffusion_magnitudes_are_torchaudios():
    """As computed by its authors, whose columns are centred on multiples of the hop."""
    from torchaudio.transforms import MelScale, Spectrogram

    sound = 0.3 * torch.randn(1, 60 * 441, generator=torch.Generator().manual_seed(0))
    spectrogram = Spectrogram(n_fft=17640, win_length=4410, hop_length=441, power=1.0)
    mel = MelScale(n_mels=512, sample_rate=44100, f_min=0, f_max=10000, n_stft=8821, norm=None, mel_scale="htk")
    expected = mel(spectrogram(sound[:, 221:]))
    found = RIFFUSION.log_mel(sound).exp()
    assert found.shape == (1, 512, 60)
    inner = slice(8, 50)  # away from the reflected edges, which differ
    torch.testing.assert_close(found[..., inner], expected[..., inner], rtol=1e-3, atol=1e-3 * float(expected.max()))


def test_stereo_is_heard_in_green_and_blue():
    picture = uniform(2, 3, 512, 4)
    log_mel = RIFFUSION_STEREO.to_log_mel(picture)
    assert log_mel.shape == (2, 2, 512, 4)
    for channel, color in ((0, 1), (1, 2)):
        mono = RIFFUSION.to_log_mel(picture[:, color : color + 1])
        torch.testing.assert_close(log_mel[:, channel], mono)


def test_stereo_comes_back_with_the_mean_as_red():
    picture = uniform(2, 3, 512, 4)
    back = RIFFUSION_STEREO.to_picture(RIFFUSION_STEREO.to_log_mel(picture))
    torch.testing.assert_close(back[:, 1:], picture[:, 1:], rtol=0, atol=1e-5)
    torch.testing.assert_close(back[:, 0], picture[:, 1:].mean(1), rtol=0, atol=1e-5)


def test_log_mel_of_two_channels_is_that_of_each():
    form = replace(SMALL, name="small stereo", channels=2)
    sound = uniform(3, 2, 2000) - 0.5
    expected = torch.stack([SMALL.log_mel(sound[:, 0]), SMALL.log_mel(sound[:, 1])], 1)
    torch.testing.assert_close(form.log_mel(sound), expected)


def test_the_sound_of_a_picture():
    picture = uniform(2, 3, 40, 5)
    torch.testing.assert_close(SMALL.select_channels(picture), picture.mean(1, keepdim=True))
    assert replace(SMALL, channels=2).select_channels(picture) is picture


def test_a_picture_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="Auffusion: expected pictures with 1 channels, got 3"):
        AUFFUSION.to_log_mel(torch.zeros(1, 3, 256, 4))
    with pytest.raises(ValueError, match="Riffusion in stereo: expected pictures with 3 channels, got 1"):
        RIFFUSION_STEREO.to_log_mel(torch.zeros(1, 1, 512, 4))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"floor": 0.0}, r"floor \(=0.0\) must be above 0"),
        ({"ceiling": 1e-6}, r"below ceiling \(=1e-06\)"),
        ({"power": -1.0}, r"power \(=-1.0\) must be at least 0"),
        ({"n_fft": 512}, r"win_length \(=1024\), n_fft \(=512\) must be in ascending order"),
    ],
)
def test_values_that_make_no_format(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(AUFFUSION, **changes)
