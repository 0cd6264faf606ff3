"""Tests of removing secrets and the home folder from messages and files."""

import time
from pathlib import Path

import pytest

from its.errors import UserError
from its.privacy import scrub, without_secrets

HIDDEN = "(left out)"


def test_values_under_keys_of_secrets_are_left_out_and_nothing_else():
    given = {"api_key": "x", "tokens": ["x", "y"], "headers": {"X-Api-Key": "x", "Cookie": "x"}, "password": 1234}
    kept = {"max_tokens": 77, "token": {"steps": 3, "name": "n"}, "steps": "s", "tokenizer": "t", "secret": None}
    assert without_secrets({**given, **kept}) == {
        "api_key": HIDDEN,
        "tokens": [HIDDEN, HIDDEN],
        "headers": {"X-Api-Key": HIDDEN, "Cookie": HIDDEN},
        "password": HIDDEN,
        **kept,
    }
    assert without_secrets("x", "trainer.logger.api_key") == HIDDEN


def test_prompts_stay_as_they_are_but_for_the_home_folder(monkeypatch):
    monkeypatch.setenv("MY_TOKEN", "painting of")
    monkeypatch.setenv("HOME", "/home/somebody")
    given = {"visual": "a painting of a sign, password=open", "secret": "x", "audio": {"audio": "/home/somebody/a.wav"}}
    kept = {"visual": given["visual"], "secret": "x", "audio": {"audio": "~/a.wav"}}
    assert scrub({"prompts": given, "data": {"negative_prompts": given, "prompts": [given]}}) == {
        "prompts": kept,
        "data": {"negative_prompts": kept, "prompts": [kept]},
    }
    assert scrub({"error": "a painting of"}) == {"error": f"a {HIDDEN}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pa@ss@hub.example/x", f"https://{HIDDEN}@hub.example/x"),
        ("at socks5h://hf_abc@proxy:80.", f"at socks5h://{HIDDEN}@proxy:80."),
        ("https://h/x?a=1&X-Amz-Signature=abc&b=2", f"https://h/x?a=1&X-Amz-Signature={HIDDEN}&b=2"),
        ("https://h/x?token=abc#y", f"https://h/x?token={HIDDEN}#y"),
        ("Authorization: Bearer abc", f"Authorization: {HIDDEN}"),
        ("{'authorization': 'Basic abc=='}", f"{{'authorization': '{HIDDEN}'}}"),
        ("Proxy-Authorization: abc", f"Proxy-Authorization: {HIDDEN}"),
        ("bearer abcdefghijklmnopqrst", f"bearer {HIDDEN}"),
        ("--trainer.logger.api_key=abc --x", f"--trainer.logger.api_key={HIDDEN} --x"),
        ('{"hf_token": "abc", "steps": 3}', f'{{"hf_token": "{HIDDEN}", "steps": 3}}'),
    ],
)
def test_secrets_in_texts_are_left_out(text, expected):
    assert without_secrets(text) == expected
    assert without_secrets({"a": [{"b": (text,)}], text: None}) == {"a": [{"b": [expected]}], expected: None}
    assert str(UserError(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a secret garden: roses, a token bearer and the keys of a piano",
        "mail me@example.org, https://example.org/@user/a@b",
        "steps (=3) of 77 tokens, guidance=7.5",
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
    ],
)
def test_other_texts_stay_as_they_are(text):
    assert scrub(text) == text


def test_secrets_of_the_environment_are_left_out_wherever_they_are(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("SHORT_TOKEN", "a")
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false, or true")
    assert without_secrets({"a": ["x0123456789abcdefx a false, or true"]}) == {"a": [f"x{HIDDEN}x a false, or true"]}


def test_the_home_folder_is_a_tilde_in_written_files(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    home = str(tmp_path)
    given = [home, f"{home}/a", f"at '{home}/b', {home}: no", f"{home}er/c", f"/mnt{home}/d", f"x/{home}"]
    assert scrub(given) == ["~", "~/a", "at '~/b', ~: no", *given[3:5], f"x/{home}"]
    assert without_secrets(given) == given
    monkeypatch.setenv("HOME", "/")
    assert scrub(given) == given


@pytest.mark.parametrize("text", ["token" * 100_000, "a-" * 200_000, "://" * 100_000, "authorization " * 50_000])
def test_long_texts_take_no_quadratic_time(text):
    began = time.monotonic()
    assert scrub(text) == text
    assert time.monotonic() - began < 5


def test_a_home_that_is_unknown_changes_nothing(monkeypatch):
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert scrub("/somewhere/x") == "/somewhere/x"
