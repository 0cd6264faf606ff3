"""Tests of the user cache."""

import pytest

from its import user_cache


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_text_is_computed_once_for_each_key():
    asked = []

    def compute(text):
        asked.append(text)
        return text

    assert [user_cache.remember("kind", ("a", 1), lambda: compute("one")) for _ in range(2)] == ["one"] * 2
    assert user_cache.remember("kind", ("a", 2), lambda: compute("two")) == "two"
    assert user_cache.remember("other", ("a", 1), lambda: compute("three")) == "three"
    assert asked == ["one", "two", "three"]


def test_without_a_folder_nothing_is_remembered(folder):
    folder.write_text("a file in its place")
    assert [user_cache.remember("kind", 1, lambda text=text: text) for text in ("one", "two")] == ["one", "two"]


def test_without_a_home_nothing_is_remembered(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(user_cache.Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert user_cache.read("kind", 1) is None
    user_cache.write("kind", 1, "text")
