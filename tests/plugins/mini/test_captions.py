import random

import pytest

from its_plugins.mini.captions import CONCEPTS, caption, captions, classes, knows

KINDS_AND_NAMES = [(kind, name) for kind in CONCEPTS for name in CONCEPTS[kind]]


@pytest.mark.parametrize(("kind", "name"), KINDS_AND_NAMES)
def test_every_wording_of_a_class_names_it(kind, name):
    assert all(name in classes(kind, wording) for wording in captions(kind, name))
    assert caption(kind, name, random.Random(0)) in captions(kind, name)


def test_what_it_does_not_know():
    assert not knows("visual", "a submarine")
    assert not knows("audio", "silence")
    assert knows("visual", "")


def test_words_are_matched_whole():
    assert not knows("visual", "a category of scarves")
