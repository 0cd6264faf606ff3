"""Build the command-line parser of a command from its typed function.

Positional parameters are positional arguments, which may be left out if they have a default. Keyword-only parameters
are options, and `*options: str` receives options without a parameter of the function. Lists take one or more values,
and literals are choices. A boolean is a flag, such as `--video`; if it defaults to true, `--metadata false` or
`--no_metadata` unsets it. A hyphen in the name of an option is read as an underscore. The docstring is the help text.

Values are plain text: they are not parsed as YAML, as names of files with values, or as names of classes.
"""

from __future__ import annotations

import inspect
import re
from argparse import ArgumentError, HelpFormatter
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from docstring_parser import DocstringStyle, parse
from jsonargparse import ArgumentParser, set_loader

from its.errors import UserError, by_nearness, nearest
from its.output import say

_TYPES = {
    Path: ("PATH", "a path"),
    str: ("TEXT", "text"),
    int: ("INT", "a whole number"),
    float: ("NUMBER", "a number"),
    bool: ("BOOL", "true or false"),
}
"""Type -> (placeholder in the help, description in messages)."""

set_loader("text", lambda text: text)


def run(command: Callable[..., int], arguments: Sequence[str]) -> int:
    """Parse the arguments of a command and call it, or print its help.

    Returns:
        The exit status.

    Raises:
        UserError: an argument is unknown, missing or of the wrong type.
    """
    parameters = inspect.signature(command, eval_str=True).parameters
    options = {key: parameter for key, parameter in parameters.items() if parameter.kind is Parameter.KEYWORD_ONLY}
    positional = {
        key: parameter for key, parameter in parameters.items() if parameter.kind is Parameter.POSITIONAL_OR_KEYWORD
    }
    own, others = _split(arguments, options)
    parser = _parser(command, positional | options)
    if {"-h", "--help"} & set(own):
        say(parser.format_help().rstrip())
        return 0
    accepts_others = len(parameters) > len(positional | options)
    for option in (argument.partition("=")[0] for argument in others if argument.startswith("--")):
        near = by_nearness(option[2:].replace("-", "_"), options, cutoff=0.75 if accepts_others else 0.5)
        if near or not accepts_others:
            suggestion = f" Did you mean --{near[0]}?" if near else ""
            raise UserError(f"unknown option {option}; {parser.prog} --help lists all.{suggestion}")
    try:
        values = vars(parser.parse_args(own, env=False))
    except ArgumentError as error:
        raise UserError(f"{parser.prog}: {_message(str(error), parameters)}") from None
    values = {key: value for key, value in values.items() if value is not None}
    first = [values.pop(key, parameter.default) for key, parameter in positional.items()]
    return command(*first, *others, **values)


def _split(arguments: Sequence[str], options: Mapping[str, Parameter]) -> tuple[list[str], list[str]]:
    """Split into the command's own arguments, with options spelt as parameters, and other options with their values."""
    own: list[str] = []
    others: list[str] = []
    queue = list(arguments)
    while queue:
        argument = queue.pop(0)
        option, equals, value = argument.partition("=")
        key = option.removeprefix("--").replace("-", "_")
        unset = key.removeprefix("no_")
        if not option.startswith("--"):
            own.append(argument)
        elif key in options or key == "help":
            own.append(f"--{key}{equals}{value}")
        elif unset in options and options[unset].default is True and not equals:
            own.append(f"--{unset}=false")
        else:
            others.append(argument)
            if not equals and queue and not queue[0].startswith("--"):
                others.append(queue.pop(0))
    return own, others


def _parser(command: Callable[..., int], parameters: Mapping[str, Parameter]) -> ArgumentParser:
    docstring = parse(inspect.getdoc(command) or "", style=DocstringStyle.GOOGLE)
    help_of = {
        each.arg_name: (each.description or "").removesuffix(".").replace("%", "%%") for each in docstring.params
    }
    name = f"its {command.__name__.replace('_', '-')}"
    positional = [_placeholder(each) for each in parameters.values() if each.kind is not Parameter.KEYWORD_ONLY]
    parser = ArgumentParser(
        prog=name,
        usage=" ".join([name, *positional, "[options]"]),
        description=" ".join(filter(None, (docstring.short_description, docstring.long_description))),
        epilog="All commands take --quiet (log only warnings and errors) and --verbose (log more).",
        formatter_class=HelpFormatter,
        parser_mode="text",
        default_env=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    for key, parameter in parameters.items():
        item, is_list = _type(parameter)
        is_option, default = parameter.kind is Parameter.KEYWORD_ONLY, parameter.default
        settings: dict[str, Any] = {"help": help_of.get(key, "")}
        if default not in (Parameter.empty, None, False, ()):
            shown = " ".join(default) if is_list else str(default).lower() if item is bool else default
            settings["help"] += f" (default: {shown})"
        if item is bool and default is False:
            settings["action"] = "store_true"
        else:
            settings["metavar"] = _placeholder(parameter).removesuffix("...")
            settings |= {"action": "extend"} if is_list and is_option else {"type": item}
            if is_list or (not is_option and default is not Parameter.empty):
                settings["nargs"] = "+" if is_list else "?"
        parser.add_argument(f"--{key}" if is_option else key, **settings)
    return parser


def _type(parameter: Parameter) -> tuple[Any, bool]:
    """The type of a value, and whether a list of values is expected."""
    kind = parameter.annotation
    if NoneType in get_args(kind):
        kind = next(each for each in get_args(kind) if each is not NoneType)
    is_list = get_origin(kind) in (list, Sequence)
    return (get_args(kind)[0] if is_list else kind), is_list


def _placeholder(parameter: Parameter) -> str:
    item, is_list = _type(parameter)
    if get_origin(item) is Literal:
        return f"{{{','.join(get_args(item))}}}"
    if parameter.kind is Parameter.KEYWORD_ONLY:
        return _TYPES[item][0]
    name = parameter.name.upper()
    return f"{name.removesuffix('S')}..." if is_list else name


def _message(error: str, parameters: Mapping[str, Parameter]) -> str:
    """Rewrite an error message of jsonargparse with the argument's value and the expected values."""
    if missing := re.match(r"the following arguments are required: (.+)", error):
        names = [_placeholder(parameters[key]) for key in missing[1].split(", ")]
        return f"expected {' '.join(names)} first, then options"
    wrong = re.match(r'Parser key "(\w+)".*Got value: (.*)', error, re.DOTALL)
    if not wrong:
        return error.removeprefix("argument ").replace("argument", "value", 1)
    key, value = wrong.groups()
    item, _ = _type(parameters[key])
    label = f"--{key}" if parameters[key].kind is Parameter.KEYWORD_ONLY else key.upper()
    if get_origin(item) is Literal:
        return f"{label} is {value}; expected one of {', '.join(get_args(item))}.{nearest(value, get_args(item))}"
    return f"{label} is {value}; expected {_TYPES[item][1]}"
