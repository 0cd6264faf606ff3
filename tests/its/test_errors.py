"""Secrets in messages and files."""

from its.errors import without_secrets


def test_texts_under_keys_of_secrets_are_left_out_and_nothing_else():
    given = {"api_key": "x", "tokens": ["x", "y"], "max_tokens": 77, "token": {"steps": 3, "name": "n"}, "steps": "s"}
    hidden = "(left out)"
    kept = {"max_tokens": 77, "token": {"steps": 3, "name": "n"}, "steps": "s"}
    assert without_secrets(given) == {"api_key": hidden, "tokens": [hidden, hidden], **kept}
    assert without_secrets("x", "trainer.logger.api_key") == hidden
