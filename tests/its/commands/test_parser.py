"""Command lines from typed functions."""

import functools
import inspect
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Literal, get_args

import pytest

from its import cli
from its.commands import evaluate, reproduce, table
from its.commands.parser import run
from its.errors import UserError
from its.evaluation.choosing import DEFAULT
from its.evaluation.paper import EXPERIMENTS
from its.evaluation.tables import FORMATS

ROOT = Path(__file__).parents[3]

calls = []


def sample_command(
    runs: list[Path],
    *,
    batch_size: int = 1,
    f_min: float | None = None,
    scorers: Sequence[str] = ("a", "b"),
    output: Path | None = None,
    prompt: str | None = None,
    video: bool = False,
    metadata: bool = True,
    table: Literal["md", "csv"] = "md",
) -> int:
    """Do something.

    At 95 % of the time.

    Args:
        runs: some runs.
        batch_size: at 5 % load
            or more.
    """
    calls.append((runs, batch_size, f_min, list(scorers), output, prompt, video, metadata, table))
    return 7


def passing_on(file: Path, *options: str, anyway: bool = False) -> int:
    """Pass on."""
    calls.append((file, list(options), anyway))
    return 0


def optional(action: Literal["cp"] | None = None, name: str | None = None) -> int:
    """Do something, or nothing."""
    calls.append((action, name))
    return 0


def parsed(command, *arguments):
    calls.clear()
    run(command, arguments)
    (call,) = calls
    return call


DEFAULTS = {
    "batch_size": 1,
    "f_min": None,
    "scorers": ["a", "b"],
    "output": None,
    "prompt": None,
    "video": False,
    "metadata": True,
    "table": "md",
}


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        ([], {}),
        (["--batch_size", "4"], {"batch_size": 4}),
        (["--batch-size=4"], {"batch_size": 4}),
        (["--f_min", "-1500"], {"f_min": -1500.0}),
        (["--scorers", "x", "1"], {"scorers": ["x", "1"]}),
        (["--scorers", "x", "--video", "--scorers", "y", "z"], {"scorers": ["x", "y", "z"], "video": True}),
        (["--metadata", "false"], {"metadata": False}),
        (["--metadata=true"], {}),
        (["--no_metadata"], {"metadata": False}),
        (["--no-metadata"], {"metadata": False}),
        (["--table", "csv", "--output", "o"], {"table": "csv", "output": Path("o")}),
    ],
)
def test_options(arguments, changed):
    runs, *values = parsed(sample_command, "r", "s", *arguments)
    assert runs == [Path("r"), Path("s")]
    assert dict(zip(DEFAULTS, values, strict=True)) == DEFAULTS | changed


def test_the_exit_status_and_positional_arguments_after_options():
    assert run(sample_command, ["--video", "--batch_size", "2", "r"]) == 7
    assert parsed(sample_command, "--video", "r")[0] == [Path("r")]


@pytest.mark.parametrize(
    "text", ["null", "1", "1e3", "yes", "[a, b]", "{a: 1}", "a: b", "@file", "x.yaml", "os.system", ""]
)
def test_texts_and_paths_are_not_interpreted(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("file", "@file", "x.yaml", "[a, b]"):
        (tmp_path / name).write_text("--batch_size=3\nbatch_size: 3\n")
    options = (f"--prompt={text}", f"--output={text}", "--scorers", text)
    runs, batch_size, _, scorers, output, prompt, *_ = parsed(sample_command, text, *options)
    assert (runs, batch_size, scorers, output, prompt) == ([Path(text)], 1, [text], Path(text), text)


def test_no_configs_and_no_environment(tmp_path, monkeypatch):
    (tmp_path / "c.yaml").write_text("batch_size: 3\n")
    monkeypatch.setenv("JSONARGPARSE_DEFAULT_ENV", "true")
    for name in ("ITS_SAMPLE_COMMAND__BATCH_SIZE", "ITS_SAMPLE_COMMAND_BATCH_SIZE", "ITS_BATCH_SIZE", "BATCH_SIZE"):
        monkeypatch.setenv(name, "3")
    assert parsed(sample_command, "r")[1] == 1
    for option in ("--config", "--print_config", "--print_shtab", "--batch_size.x", "--scorers+"):
        with pytest.raises(UserError, match="unknown option"):
            run(sample_command, ["r", f"{option}={tmp_path / 'c.yaml'}"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["r", "--batch_sise", "1"], "unknown option --batch_sise; .* Did you mean --batch_size?"),
        (["r", "--batch", "1"], "unknown option --batch; "),
        (["r", "--no_video"], "unknown option --no_video"),
        (["r", "--batch_size", "x"], "--batch_size is x; expected a whole number"),
        (["r", "--batch_size", "1.5"], "--batch_size is 1.5; expected a whole number"),
        (["r", "--f_min", "low"], "--f_min is low; expected a number"),
        (["r", "--metadata", "maybe"], "--metadata is maybe; expected true or false"),
        (["r", "--table", "cvs"], "--table is cvs; expected one of md, csv. Did you mean csv?"),
        (["r", "--batch_size"], "--batch_size: expected one value"),
        (["r", "--scorers"], "--scorers: expected at least one value"),
        (["r", "--video=3"], "--video: .*'3'"),
        (["--video"], "expected RUN... first"),
        (["--scorers", "a", "r"], "expected RUN... first"),
        (["r", "-x"], "-x"),
    ],
)
def test_wrong_options_are_one_message(arguments, message, capsys):
    with pytest.raises(UserError, match=message) as error:
        run(sample_command, arguments)
    assert "\n" not in str(error.value)
    assert capsys.readouterr() == ("", "")


def test_wrong_positional_arguments():
    with pytest.raises(UserError, match="ACTION is mv; expected one of cp"):
        run(optional, ["mv"])
    with pytest.raises(UserError, match="unrecognized values: x"):
        run(optional, ["cp", "name", "x"])


def test_other_options_are_passed_on():
    arguments = ["--model.steps", "3", "--data.seeds=[1]", "f", "--anyway", "--model.x", "-5", "--model.help"]
    options = ["--model.steps", "3", "--data.seeds=[1]", "--model.x", "-5", "--model.help"]
    assert parsed(passing_on, *arguments) == (Path("f"), options, True)


def test_a_misspelt_option_is_not_passed_on():
    with pytest.raises(UserError, match="unknown option --any-way; .*Did you mean --anyway?"):
        run(passing_on, ["f", "--model.steps=3", "--any-way"])


def test_positional_arguments_may_be_optional():
    assert parsed(optional) == (None, None)
    assert parsed(optional, "cp", "x") == ("cp", "x")


def test_help(capsys):
    assert run(sample_command, ["--help"]) == run(sample_command, ["r", "-h"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: its sample-command RUN... [options]\n\nDo something. At 95 % of the time.\n")
    assert re.search(r"--batch_size INT +at 5 % load or more \(default: 1\)", text)
    assert re.search(r"--scorers TEXT \[TEXT ...\]\s+\(default: a b\)", text)
    assert "--table {md,csv}" in text
    assert "--quiet" in text
    assert "--verbose" in text


COMMANDS = [name for name in cli.COMMANDS if name != "predict"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_describes_itself_and_each_option(name, capsys):
    assert cli.main([name, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: its {name} ")
    module = import_module(cli.COMMANDS[name])
    command = getattr(module, module.__name__.rpartition(".")[2])
    summary = command.__doc__.splitlines()[0].removesuffix(".")
    assert summary in " ".join(text.split())
    assert cli._summary(module.__name__) == summary
    for line in command.__annotations__:
        assert line in ("return", "options") or f"    {line}: " in inspect.getdoc(command)


def test_the_general_help_has_a_line_for_each_command(capsys):
    assert cli.main(["--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name in cli.COMMANDS:
        (line,) = [line for line in lines if line.startswith(f"  its {name} ")]
        assert len(line.split()) > 3
    assert max(map(len, lines)) <= 110


@pytest.mark.parametrize("name", COMMANDS)
def test_help_and_wrong_options_import_nothing_heavy(name):
    code = (
        f"import sys, its.cli\nits.cli.main([{name!r}, '--help'])\nits.cli.main([{name!r}, '--output'])\n"
        "print([name for name in ('torch', 'lightning', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


TEXTS = "".join(path.read_text("utf-8") for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))
BLOCKS = "\n".join(re.findall(r"^```sh\n(.*?)^```", TEXTS, re.MULTILINE | re.DOTALL)).replace("\\\n", " ")
LINES = re.findall(r"^its (?!predict|--|COMMAND).+", BLOCKS, re.MULTILINE)


@pytest.mark.parametrize("line", dict.fromkeys(LINES))
def test_commands_of_all_documents_parse(line):
    name, *arguments = shlex.split(line.removeprefix("its "), comments=True)
    module = import_module(cli.COMMANDS[name])
    command = getattr(module, module.__name__.rpartition(".")[2])
    assert run(functools.wraps(command)(lambda *positional, **options: 3), arguments) == 3


def test_choices_and_defaults_are_those_of_the_packages():
    assert get_args(table.TableFormat) == tuple(FORMATS)
    for command in (evaluate.evaluate, reproduce.reproduce):
        assert command.__kwdefaults__["scorers"] == DEFAULT
    assert list(EXPERIMENTS) == re.findall(r"[\w-]+", reproduce.reproduce.__annotations__["experiment"])[1:]
