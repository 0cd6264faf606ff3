"""Command-line entry point `its`: imports the module of a command on demand, and runs it."""

from __future__ import annotations

import gc
import io
import logging
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from its import __version__
from its.environment import complete_environment, rank
from its.errors import UserError, nearest
from its.output import configure_logging, say
from its.privacy import scrub

logger = logging.getLogger(__name__)

COMMANDS = {
    "predict": "its.commands.predict",
    "configs": "its.commands.configs",
    "colorize": "its.commands.colorize",
    "gallery": "its.commands.gallery",
    "study": "its.commands.study",
    "study-results": "its.commands.study_results",
    "evaluate": "its.commands.evaluate",
    "table": "its.commands.table",
    "reproduce": "its.commands.reproduce",
    "plugins": "its.commands.plugins",
    "video": "its.commands.video",
    "rerun": "its.commands.rerun",
    "sonify": "its.commands.sonify",
    "spectrogram": "its.commands.spectrogram",
    "log": "its.commands.log",
    "app": "its.commands.app",
    "doctor": "its.commands.doctor",
}
"""Name -> module, whose function of the same name is the command. `its.commands.predict` has `main` instead."""

LEVELS = {"--quiet": logging.WARNING, "--verbose": logging.DEBUG}
"""Options of all commands, anywhere on the command line -> lowest level of logged messages."""

DEBUG = "ITS_DEBUG"
"""Environment variable; if set, unexpected errors print a traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        Exit status: 0 for success, 1 if some samples failed or after an unexpected error, 2 for an invalid command
        line, config or input, 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    level = next((LEVELS[argument] for argument in reversed(arguments) if argument in LEVELS), logging.INFO)
    arguments = [argument for argument in arguments if argument not in LEVELS]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        say(_help())
        return 0
    name, *arguments = arguments
    if name in ("-V", "--version"):
        say(f"its {__version__}")
        return 0
    _escape_unencodable()
    configure_logging(level)
    complete_environment()
    gc.set_threshold(50_000)  # otherwise collections take half a second while torch and Lightning are imported
    try:
        if name not in COMMANDS:
            raise UserError(
                f"unknown command {name!r}; expected one of {', '.join(COMMANDS)}.{nearest(name, COMMANDS)}"
            )
        _check_current_directory()
        module = import_module(COMMANDS[name])
        if name == "predict":
            return int(module.main(arguments))
        command = getattr(module, COMMANDS[name].rpartition(".")[2])
        return int(import_module("its.commands.parser").run(command, arguments))
    except UserError as error:
        if name != "predict" or rank() == 0:  # only `its predict` runs in several processes
            logger.error(error)
        return 2
    except KeyboardInterrupt:
        logger.error("interrupted; finished samples are kept")
        return 130
    except BrokenPipeError:  # for example `its table RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # otherwise Python prints a traceback at exit
        return 1
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        message = scrub(f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.300}")
        logger.error(f"unexpected error: {message}{_write_traceback(name, error)}")
        return 1


def _check_current_directory() -> None:
    """Check that the current directory exists; without it torch ends the process while it is imported."""
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the current directory can't be used ({error.strerror}): change to another one") from None


def _escape_unencodable() -> None:
    """Print characters as escapes if the encoding of the terminal or pipe lacks them."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _write_traceback(command: str, error: Exception) -> str:
    """Write a traceback to a file that only the user can read, and return a sentence with its path.

    The file contains neither the command line nor the environment, secrets or the path of the home folder.
    """
    import tempfile
    import traceback

    text = f"its {__version__}, {sys.version}, {sys.platform}: its {command}\n\n"
    text = scrub(text + "".join(traceback.format_exception(error)))
    try:
        descriptor, path = tempfile.mkstemp(prefix=f"its-{command}-", suffix=".log", text=True)
        with open(descriptor, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
    except OSError:
        logger.error(text)
        return ""
    return f". The traceback is in {path} ({DEBUG}=1 prints it): please report it"


def _help() -> str:
    commands = "\n".join(f"  its {name:13}  {_summary(module)}" for name, module in COMMANDS.items())
    return (
        "usage: its COMMAND [options]\n\n"
        "Images that sound: pictures that, played as spectrograms, sound like what they show.\n\n"
        f"{commands}\n\n"
        "its COMMAND --help describes its options. All commands also take --quiet (log only warnings and errors) and\n"
        "--verbose (log more). To begin: its predict --config castle_bell"
    )


def _summary(module: str) -> str:
    """Read the first line of a command's docstring without importing its module."""
    name = module.rpartition(".")[2]
    source = Path(__file__).with_name("commands") / f"{name}.py"
    match = re.search(
        rf'^def (?:{name}|main)\(.*?"""(.+?)\.?$', source.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )
    return match[1] if match else ""
