"""What a colorizer is told, made of what the picture was told."""

from __future__ import annotations

import re

from its.errors import UserError

_STYLES = re.compile(
    r"\b(in\s+)?(gr[ae]y\s?-?scale|black[\s-]and[\s-]white|monochrome|lithograph(ic)?(\s+(style|print))?|"
    r"(black|white|plain|dark)\s+background|pencil\s+(sketch|drawing)|charcoal|line\s+art)\b",
    re.IGNORECASE,
)
"""What asks for no colours, or for a ground that suits a spectrogram."""

_KIND = re.compile(
    r"^(an?\s+|the\s+)?(\w+\s+)?(painting|drawing|picture|photo(graph)?|image|sketch|lithograph|print)s?\s+of\b\s*",
    re.IGNORECASE,
)
"""What kind of picture it is, at the beginning; one adjective may come before it."""


def color_prompt(prompt: str) -> str:
    """A picture's prompt -> "a colorful photo of ...", the paper's, without the words of style.

    Left out are the kind of picture at the beginning ("a painting of") and, anywhere, "grayscale", "black and white",
    "lithograph style", "black background" and the like. "a painting of castle towers, grayscale" becomes
    "a colorful photo of castle towers".

    Raises:
        UserError: nothing is left.
    """
    parts = [" ".join(_STYLES.sub(" ", part).split()) for part in prompt.split(",")]
    subject = _KIND.sub("", ", ".join(part for part in parts if part))
    if not subject:
        raise UserError(
            f"no colour prompt can be made of {prompt!r}, which names nothing to be seen: "
            "give the picture a prompt, or set model.colorizer to null"
        )
    return f"a colorful photo of {subject}"
