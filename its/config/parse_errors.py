"""What jsonargparse says of a wrong config, in one short sentence."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable

from its import registry
from its.errors import nearest

LONGEST = 400
"""Characters of a message that is passed on as it is."""


def plain_message(text: str, keys: Iterable[str]) -> str:
    """A message of jsonargparse's -> key, what was got, what was expected, the nearest known name.

    Args:
        text: the message.
        keys: dotted keys that there are.
    """
    text = " ".join(text.split())
    if match := re.match(r"unrecognized arguments: (\S+)", text, re.IGNORECASE):
        option = match[1].partition("=")[0]
        return f"there is no option {option}.{nearest(option, [f'--{key}' for key in keys])}"
    if match := re.search(r"Problem with given class_path '([\w.]+)': Option '([^']+)' is not accepted", text):
        return f"{_key(text)}{_unknown_argument(*match.groups())}"
    if match := re.search(r"Option '([^']+)' is not accepted", text):
        return f"there is no key {match[1]}.{nearest(match[1], keys)}"
    if match := re.search(r"Group '(\w+)' does not accept option '([^']+)'", text):
        return f"there is no key {match[1]}.{match[2]}.{nearest(f'{match[1]}.{match[2]}', keys)}"
    if match := re.search(r"Importing '([\w.]+)' is not allowed", text):
        return (
            f"{_key(text)}names {match[1]}, which would import code that is no registered plugin. "
            f"If you trust it, say so on the command line: --trust {match[1].rpartition('.')[0]}"
        )
    if match := re.search(r"arguments are required: (.*)", text):
        return f"missing: {match[1]}. Name a config: its predict --config configs/castle_bell.yaml"
    text = re.sub(r"NestedArg\(key='([^']*)', val='?([^')]*)'?\)", r"\1: \2", text)
    text = re.sub(r"Namespace\(class_path='[\w.]+', init_args=Namespace\(([^)]*)\)[^)]*\)", r"{\1}", text)
    text = re.sub(r"typing\.Literal\[([^\]]*)\]", r"one of \1", re.sub(r"<class '([\w.]+)'>", r"\1", text))
    union = re.search(r"any of the Union subtypes Subtypes: \[(.*?)\] Errors:.*Given value: (.*)", text)
    if union:
        return f"{_key(text)}got {union[2]}; expected {union[1]}"
    if match := re.search(r"Expected an? (.*?)\. Got value: (.*)", text):
        return f"{_key(text)}got {match[2]}; expected {match[1]}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _key(text: str) -> str:
    match = re.search(r'Parser key "([^"]+)"', text)
    return f"{match[1]}: " if match else ""


def _unknown_argument(class_path: str, argument: str) -> str:
    name = class_path.rpartition(".")[2]
    cls = registry.classes().get(name)
    known = list(inspect.signature(cls).parameters) if cls is not None else []
    listed = f"; it takes {', '.join(known)}" if known else ""
    return f"{name} has no argument {argument}{listed}.{nearest(argument, known)}"
