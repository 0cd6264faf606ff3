"""Packaged configs by name."""

from pathlib import Path

import pytest

from its.config.compose import compose
from its.errors import UserError
from its.media.packaged import copy_packaged, find_config, packaged_configs, packaged_files, summary
from its.specs.prompts import PromptGrid

CONFIGS = Path(__file__).parents[3] / "configs"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    "name", ["castle_bell", "castle_bell.yaml", "configs/castle_bell.yaml", "models/mini", "paper/table1"]
)
def test_a_name_is_found_from_any_directory(name):
    stem = name.removeprefix("configs/").removesuffix(".yaml")
    assert find_config(name) == CONFIGS / f"{stem}.yaml"
    assert compose([Path(name)]).values == compose([CONFIGS / f"{stem}.yaml"]).values


def test_a_file_at_the_path_comes_first():
    Path("castle_bell").write_text("output: mine")
    assert compose([Path("castle_bell")]).values == {"output": "mine"}


@pytest.mark.parametrize("name", ["castle_bel", "models/min", "../castle_bell", "../configs/castle_bell"])
def test_other_names_are_refused(name):
    with pytest.raises(UserError, match="its configs"):
        find_config(name)


def test_a_file_of_a_similar_name_is_suggested():
    Path("tower.yaml").write_text("")
    with pytest.raises(UserError, match=r"towr.yaml.*tower.yaml"):
        find_config("towr.yaml")


def test_a_packaged_config_may_name_packaged_files_and_so_may_its_copy():
    copy_packaged("paper/table1", Path("mine.yaml"))
    original, copy = (compose([Path(name)]) for name in ("paper/table1", "mine.yaml"))
    assert copy.values == original.values
    grid = PromptGrid(**{**copy.values["data"], "seeds": [1]})
    assert len(grid.expand(["visual", "audio"])) == 100


def test_prompt_files_are_found_by_name():
    assert len(PromptGrid(prompts="prompts/table5.jsonl").expand(["visual", "audio"])) == 7


def test_nothing_is_overwritten_by_a_copy():
    Path("mine.yaml").write_text("precious")
    with pytest.raises(UserError, match=r"mine.yaml exists"):
        copy_packaged("castle_bell", Path("mine.yaml"))
    with pytest.raises(UserError, match="Did you mean castle_bell"):
        copy_packaged("castle_bel", Path("other.yaml"))
    assert Path("mine.yaml").read_text() == "precious"


def test_every_packaged_file_has_a_summary():
    for name, path in packaged_files().items():
        if path.suffix == ".yaml":
            assert len(summary(path)) > 10, name


def test_configs_are_those_that_the_option_takes():
    for name in packaged_configs():
        compose([Path(name)])
