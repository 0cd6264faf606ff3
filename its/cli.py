"""The command `its`. Nothing heavy is imported before a command is known."""

from __future__ import annotations

import gc
import io
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from its import __version__
from its.environment import complete_environment, rank
from its.errors import UserError, nearest
from its.output import configure_logging, say
from its.privacy import scrub

logger = logging.getLogger(__name__)

COMMANDS = {
    "predict": ("its.commands.predict", "make images that sound, as a YAML file describes them"),
    "configs": ("its.commands.configs", "list the configs that come with its, or copy one"),
    "colorize": ("its.commands.colorize", "give the samples of a run their colours, or others"),
    "gallery": ("its.commands.gallery", "a page that shows and plays the samples of runs"),
    "study": ("its.commands.study", "a page that asks people which of two runs' samples they find better"),
    "study-results": ("its.commands.study_results", "win rates of what people answered there"),
    "evaluate": ("its.commands.evaluate", "score the samples of runs: CLIP and CLAP, or the embedded judge"),
    "table": ("its.commands.table", "a table of the scores that samples have"),
    "reproduce": ("its.commands.reproduce", "run the paper's experiments, and print our scores beside the paper's"),
    "plugins": (
        "its.commands.plugins",
        "list the experts, combiners, schedulers, vocoders... that configs can name",
    ),
    "video": ("its.commands.video", "videos of the samples of a run: a line moves in time with the sound"),
    "rerun": ("its.commands.rerun", "make a sample again from its picture, sound, video or sample.json"),
    "sonify": ("its.commands.sonify", "play any picture as a spectrogram"),
    "spectrogram": ("its.commands.spectrogram", "draw the spectrogram of any sound"),
    "log": ("its.commands.log", "upload a run to Weights & Biases"),
    "doctor": ("its.commands.doctor", "check this installation and say what to do"),
}
"""Name -> (module whose `main` runs it, what it does)."""

LEVELS = {"--quiet": logging.WARNING, "--verbose": logging.DEBUG}
"""Options of all commands, wherever they are given, with the level of what is logged."""

DEBUG = "ITS_DEBUG"
"""Environment variable that lets unexpected errors end in their traceback."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Returns:
        Exit status: 0 when all is well, 1 when some samples failed or after an unexpected error, 2 for a wrong command
        line or config.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not [argument for argument in arguments if argument not in LEVELS] or arguments[0] in ("-h", "--help", "help"):
        say(_help())
        return 0
    if arguments[0] in ("-V", "--version"):
        say(f"its {__version__}")
        return 0
    level = next((LEVELS[argument] for argument in reversed(arguments) if argument in LEVELS), logging.INFO)
    name, *arguments = (argument for argument in arguments if argument not in LEVELS)
    _survive_encodings()
    configure_logging(level)
    complete_environment()
    try:
        if name not in COMMANDS:
            raise UserError(f"there is no command {name!r}; there are: {', '.join(COMMANDS)}.{nearest(name, COMMANDS)}")
        return int(_import(COMMANDS[name][0]).main(arguments))
    except UserError as error:
        if name != "predict" or rank() == 0:  # once: of all commands, it alone runs in several processes
            logger.error(error)
        return 2
    except KeyboardInterrupt:
        logger.error("interrupted; whole samples are kept")
        return 130
    except BrokenPipeError:  # such as of `its table RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python's end prints a traceback
        return 1
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        said = scrub(f"{type(error).__name__}: {str(error).partition(chr(10))[0]:.300}")
        logger.error(f"unexpected error: {said}{_logged(name, error)}")
        return 1


def _survive_encodings() -> None:
    """Let characters that a terminal or pipe has no code for be printed as escapes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _logged(command: str, error: Exception) -> str:
    """Write the traceback into a file that only its user may read, and return where it is.

    It says neither the command line nor the environment. Secrets and the name of the home folder are left out.
    """
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


def _import(name: str) -> ModuleType:
    """Import a module without garbage collection, which takes a second while torch and Lightning are imported.

    What it imports lives until the process ends, so later collections leave it out.
    """
    if name in sys.modules:
        return sys.modules[name]
    enabled = gc.isenabled()
    gc.disable()
    try:
        module = import_module(name)
    finally:
        if enabled:
            gc.enable()
    gc.freeze()
    return module


def _help() -> str:
    commands = "\n".join(f"  its {name:13} {what}" for name, (_, what) in COMMANDS.items())
    return (
        "usage: its COMMAND [options]\n\n"
        "Images that sound: pictures that, played as spectrograms, sound like what they show.\n\n"
        f"{commands}\n\n"
        "its COMMAND --help tells more. To begin: its predict --config castle_bell"
    )
