"""Warn about prompts that a text encoder can't represent."""

from __future__ import annotations

import warnings
from typing import Any


def warn_if_truncated(prompt: str, *, tokenizer: Any, max_tokens: int, model: str) -> None:
    """Warn if a prompt has more tokens than a model supports.

    Args:
        prompt: the prompt.
        tokenizer: the model's tokenizer, from transformers.
        max_tokens: maximum number of tokens of the model, including start and end tokens.
        model: name of the model for the message.
    """
    tokens = tokenizer(prompt, verbose=False).input_ids
    if len(tokens) > max_tokens:
        ignored = tokenizer.decode(tokens[max_tokens - 1 : -1])  # the last position is for the end token
        warnings.warn(
            f"the prompt {shorten(prompt)} has {len(tokens)} tokens, but {model} supports only {max_tokens}. "
            f"The end is ignored: {shorten(ignored)}",
            stacklevel=3,
        )


def shorten(text: str) -> str:
    """Return the `repr` of a text, limited to 80 characters."""
    return repr(text if len(text) <= 80 else f"{text[:77]}...")
