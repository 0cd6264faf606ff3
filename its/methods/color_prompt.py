"""Derive the colorizer's prompt from the image prompt."""

from __future__ import annotations

import re

from its.errors import UserError

_STYLE = re.compile(
    r"\b(in\s+)?(gr[ae]y\s?-?scale|black[\s-]and[\s-]white|monochrome|lithograph(ic)?(\s+(style|print))?|"
    r"(black|white|plain|dark)\s+background|pencil\s+(sketch|drawing)|charcoal|line\s+art)\b",
    re.IGNORECASE,
)
"""Style words that exclude colour."""

_MEDIUM = re.compile(
    r"^(an?\s+|the\s+)?(\w+\s+)?(painting|drawing|picture|photo(graph)?|image|sketch|lithograph|print)s?\s+of\b\s*",
    re.IGNORECASE,
)
"""A medium at the beginning, with at most one adjective."""


def color_prompt(prompt: str) -> str:
    """Return "a colorful photo of ..." (the paper's colour prompt) for the subject of an image prompt.

    Removes a medium at the beginning ("a painting of") and style words anywhere, such as "grayscale", "lithograph
    style" and "black background". "a painting of castle towers, grayscale" becomes "a colorful photo of castle towers".

    Raises:
        UserError: the prompt has no subject.
    """
    phrases = [" ".join(_STYLE.sub(" ", phrase).split()) for phrase in prompt.split(",")]
    subject = _MEDIUM.sub("", ", ".join(phrase for phrase in phrases if phrase))
    if not subject:
        raise UserError(
            f"no colour prompt can be derived from {prompt!r}, which has no subject: "
            "give the picture a prompt with a subject, or set model.colorizer to null"
        )
    return f"a colorful photo of {subject}"
