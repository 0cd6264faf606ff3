"""The config of a sample reproduces its spec."""

import pytest
import soundfile
import torch
from PIL import Image

from its.runs.replay import differences, sample_config
from its.specs.prompts import PromptGrid

RESOLVED = {
    "method": "MultimodalDenoising",
    "model": {"steps": 3, "fallback": "mini"},
    "save": ["image"],
    "output": "x",
}


def again(row):
    data = sample_config(row, RESOLVED, precision="32-true")["data"]
    (made,) = PromptGrid(**data).expand(["visual", "audio"])
    return made


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"seeds": [2**63 - 1]},
        {"guidance_scale": {"visual": 3}, "negative_prompts": {"audio": "noise"}},
        {"sweep": {"guidance_scale.audio": [7.5], "steps": [9], "combiner.t.visual": [0.5]}},
    ],
)
def test_rows(options):
    (row,) = PromptGrid(prompts=[{"visual": "a\n城", "audio": "'"}], **options).expand(["visual", "audio"])
    found = again(row)
    found.source = row.source
    assert found == row


def test_files_of_the_users_own(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    soundfile.write(tmp_path / "b.wav", torch.zeros(100).numpy(), 8000)
    prompts = [
        {"visual": {"image": str(tmp_path / "a.png"), "prompt": "c"}, "audio": {"audio": str(tmp_path / "b.wav")}}
    ]
    (row,) = PromptGrid(prompts=prompts).expand(["visual", "audio"])
    assert again(row).files == row.files
    assert again(row).prompts == row.prompts


def test_the_config_has_no_settings_of_the_machine():
    (row,) = PromptGrid(prompts=[{"visual": "a", "audio": "b"}]).expand(["visual", "audio"])
    config = sample_config(row, RESOLVED, precision="32-true")
    assert config.keys() == {"method", "model", "data", "trainer", "save"}
    assert config["model"] == {"steps": 3, "fallback": None}
    assert config["trainer"] == {"precision": "32-true"}


def test_differences_are_named_by_their_keys():
    assert differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}, "d": 4}) == ["a.c: 2 -> 3", "d: None -> 4"]
    assert differences({"a": [1]}, {"a": [1]}) == []
