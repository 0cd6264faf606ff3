"""The embedded judge, on newly synthesised sounds and on the pack's samples in the documentation."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from its.interfaces import ScorerInput
from its_plugins.mini.captions import AUDIO, VISUAL, classes
from its_plugins.mini.judge import MiniPictureJudge, MiniSoundJudge
from its_plugins.mini.judge_network import CLASSES, Classifier, amplify, resize
from its_plugins.mini.training import sheet, sounds
from its_plugins.mini.training.sampling import PAIRS

ROOT = Path(__file__).parents[3]
SHEET = ROOT / "docs/images/pack_sheet.png"


def ready(judge):
    judge.prepare()
    judge.load()
    return judge


@pytest.fixture(scope="module")
def picture_judge():
    return ready(MiniPictureJudge())


@pytest.fixture(scope="module")
def sound_judge():
    return ready(MiniSoundJudge())


def scorer_input(prompt, *, picture=None, waveform=None, rate=16_000):
    nothing = torch.zeros(256, 992), torch.zeros(158_720)
    return ScorerInput(
        picture=nothing[0] if picture is None else picture,
        waveform=nothing[1] if waveform is None else waveform,
        sample_rate=rate,
        prompt=prompt,
    )


@pytest.mark.slow
def test_held_out_sounds_are_recognised(sound_judge):
    right = 0
    for name, concept in AUDIO.items():
        clip = torch.from_numpy(sounds.clip(name, np.random.default_rng([777, *name.encode()])).astype(np.float32))
        scores = [sound_judge.score([scorer_input(other.phrases[0], waveform=clip)])[0] for other in AUDIO.values()]
        right += scores[list(AUDIO).index(name)] == max(scores)
        if name == "bell":
            assert sound_judge.score([scorer_input(concept.phrases[0], waveform=clip * 0.01)])[0] > 0.5  # however quiet
    assert right >= 10, f"{right} of {len(AUDIO)}"


def test_the_composed_pictures_in_the_documentation_are_recognised(picture_judge):
    """On the sheet each pair has two rows of two samples, and each expert alone beside them."""
    pixels, right = np.asarray(Image.open(SHEET).convert("L"), dtype=np.float32) / 255, 0
    block = sheet.CAPTION + 2 * (sheet.CELL[1] + sheet.GAP)
    assert len(pixels) == len(PAIRS) * block
    for index, (prompt, _) in enumerate(PAIRS.values()):
        for line, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            left, top = sheet.corner(line, column)
            cell = pixels[index * block + top :][: sheet.CELL[1], left : left + sheet.CELL[0]]
            picture = torch.nn.functional.interpolate(torch.from_numpy(cell)[None, None], (256, 992), mode="bilinear")
            scores = {
                name: picture_judge.score([scorer_input(VISUAL[name].phrases[0], picture=picture[0, 0])])[0]
                for name in VISUAL
            }
            right += max(scores, key=scores.get) in classes("visual", prompt)
    assert right >= 0.9 * 4 * len(PAIRS), f"{right} of {4 * len(PAIRS)}"


def test_silence_and_black_pictures_match_no_class(picture_judge, sound_judge):
    assert max(picture_judge.score([scorer_input(concept.phrases[0])])[0] for concept in VISUAL.values()) < 0.5
    assert max(sound_judge.score([scorer_input(concept.phrases[0])])[0] for concept in AUDIO.values()) < 0.5


def test_a_prompt_that_names_no_class_has_no_score(picture_judge, sound_judge):
    assert picture_judge.score([scorer_input("a cathedral of glass"), scorer_input("castle towers")])[0] is None
    assert sound_judge.score([scorer_input("a theremin")]) == [None]


def test_a_prompt_of_two_classes_is_judged_by_both(picture_judge):
    picture = torch.rand(256, 992, generator=torch.Generator().manual_seed(0))
    one, other, both = picture_judge.score(
        [scorer_input(prompt, picture=picture) for prompt in ("tigers", "trains", "tigers on trains")]
    )
    assert both == pytest.approx(one + other, abs=1e-6)


def test_docstrings_say_that_the_judges_are_neither_clip_nor_clap(picture_judge):
    assert "not CLIP" in MiniPictureJudge.__doc__
    assert "not CLAP" in MiniSoundJudge.__doc__
    assert picture_judge.provenance()["embedded"] is True


def test_both_are_small():
    files = list((ROOT / "plugins/mini/weights/judge").glob("*.safetensors"))
    assert len(files) == 2
    assert sum(path.stat().st_size for path in files) < 1_500_000


def test_the_input_has_a_quarter_of_the_columns_of_a_canvas():
    assert resize(torch.zeros(2, 256, 992)).shape == (2, 128, 248)
    assert resize(torch.zeros(2, 512, 512)).shape == (2, 128, 64)
    assert Classifier(len(CLASSES["visual"]))(torch.zeros(2, 128, 248)).shape == (2, len(CLASSES["visual"]))


def test_sounds_are_amplified_to_one_level_but_silence_stays():
    gray = torch.rand(1, 256, 992, generator=torch.Generator().manual_seed(0))
    assert torch.quantile(amplify(gray * 0.5)[:, ::2, ::2].flatten(), 0.999) == pytest.approx(0.94, abs=0.01)
    assert amplify(torch.zeros(1, 256, 992)).max() == 0
