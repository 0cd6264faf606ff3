import random

import pytest

from its_plugins.mini.captions import CONCEPTS, caption, captions, classes

KINDS_AND_NAMES = [(kind, name) for kind in CONCEPTS for name in CONCEPTS[kind]]


@pytest.mark.parametrize(("kind", "name"), KINDS_AND_NAMES)
def test_every_wording_of_a_class_names_it(kind, name):
    assert all(name in classes(kind, wording) for wording in captions(kind, name))
    assert caption(kind, name, random.Random(0)) in captions(kind, name)


def test_prompts_without_a_class():
    assert classes("visual", "a submarine") == classes("audio", "silence") == classes("visual", "") == []


def test_words_are_matched_whole():
    assert classes("visual", "a category of scarves") == []
