import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from its.cli import COMMANDS, main


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "its predict" in out
    assert "its plugins" in out


def test_help_and_version_after_an_option_of_all_commands(capsys):
    assert main(["--quiet", "--help"]) == main(["--verbose"]) == main(["--quiet", "--version"]) == 0
    assert "unknown command" not in capsys.readouterr().err


def test_help_imports_nothing_heavy():
    code = "import sys, its.cli; its.cli.main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("its 0.")


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["predikt"]) == 2
    assert "unknown command 'predikt'" in (err := capsys.readouterr().err)
    assert "Did you mean predict?" in err


def test_plugins_lists_interfaces_names_origins_and_summaries(capsys):
    assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert "Scheduler\n  DDIM" in out
    assert "its_plugins.schedulers.ddim" in out
    assert "pack:mini" in out


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    import its.commands.plugins

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(its.commands.plugins, "plugins", interrupted)
    assert main(["plugins"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["plugins", "--trust", "no.such.module"], ["predict", "--trust", "no.such"]])
def test_a_module_that_is_not_there(arguments, capsys):
    assert main(arguments) == 2
    assert "No module named 'no" in capsys.readouterr().err


@pytest.fixture
def probe(monkeypatch, tmp_path):
    """`probe(code)` registers a command `probe`, whose body is this code."""

    def probe(code):
        (tmp_path / "probing_command.py").write_text(
            f"def probing_command(*options: str):\n    {code}\n    return 0\n\nmain = probing_command\n"
        )
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setitem(COMMANDS, "probe", "probing_command")
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    yield probe
    sys.modules.pop("probing_command", None)


def test_an_unexpected_error_is_one_line_and_a_log_file(probe, capsys):
    probe("raise KeyError('\\x1b[2J is missing')")
    assert main(["probe", "--token=secret"]) == 1
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("its: unexpected error: KeyError: ")
    assert "\x1b" not in line
    path = Path(re.search(r"The traceback is in (\S+) \(ITS_DEBUG=1 prints it\)", line)[1])
    assert path.stat().st_mode & 0o777 == 0o600
    log = path.read_text()
    assert "Traceback" in log
    assert "probing_command.py" in log
    assert "secret" not in log


def test_an_unexpected_error_is_a_traceback_if_wanted(probe, monkeypatch):
    probe("raise KeyError('x')")
    monkeypatch.setenv("ITS_DEBUG", "1")
    with pytest.raises(KeyError):
        main(["probe"])


def test_an_unexpected_error_without_room_for_a_log_file(probe, monkeypatch, tmp_path, capsys):
    probe("raise KeyError('x')")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    assert main(["probe"]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert printed.splitlines()[-1] == "its: unexpected error: KeyError: 'x'"


@pytest.mark.parametrize(
    ("options", "printed"),
    [
        ([], "its: info\n"),
        (["--quiet"], ""),
        (["--verbose"], "its: debug\nits: info\n"),
        (["--quiet", "--verbose"], "its: debug\nits: info\n"),
    ],
)
def test_how_much_is_logged(options, printed, probe, capsys):
    probe("import logging; logger = logging.getLogger('its.x'); logger.debug('debug'); logger.info('info')")
    assert main([*options, "probe", *options]) == 0
    assert capsys.readouterr() == ("", printed)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_output_for_a_terminal_without_unicode(encoding, probe, tmp_path):
    probe(
        "import logging; from its.output import say; say('castle \\U0001f3f0'); "
        "logging.getLogger('its').error('castle \\U0001f3f0')"
    )
    code = "import sys, its.cli; its.cli.COMMANDS['probe'] = 'probing_command'; sys.exit(its.cli.main(['probe']))"
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, cwd=tmp_path, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (
        0,
        b"castle \\U0001f3f0\n",
        b"its: castle \\U0001f3f0\n",
    )


def test_a_reader_that_goes_away_is_no_traceback(probe, tmp_path):
    probe("from its.output import say; [say('x' * 100_000) for _ in range(100)]")
    code = "import sys, its.cli; its.cli.COMMANDS['probe'] = 'probing_command'; sys.exit(its.cli.main(['probe']))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as run:
        run.stdout.close()
        assert run.stderr.read() == b""
    assert run.returncode == 1


@pytest.mark.parametrize("command", ["probe", "predict"])
@pytest.mark.parametrize("variable", ["RANK", "SLURM_PROCID"])
def test_a_rank_without_a_launcher_mutes_no_error(command, variable, probe, monkeypatch, capsys):
    probe("from its.errors import UserError; raise UserError('mistyped')")
    monkeypatch.setitem(COMMANDS, "predict", COMMANDS["probe"])
    monkeypatch.setenv(variable, "3")
    assert main([command]) == 2
    assert capsys.readouterr().err == "its: mistyped\n"


@pytest.mark.parametrize(
    "variables",
    [
        {"TORCHELASTIC_RUN_ID": "x", "RANK": "1", "LOCAL_RANK": "0"},
        {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_LOCALID": "0"},
        {"LOCAL_RANK": "1"},
    ],
)
def test_an_error_of_predict_is_printed_by_the_first_rank_alone(variables, probe, monkeypatch, capsys):
    probe("from its.errors import UserError; raise UserError('mistyped')")
    monkeypatch.setitem(COMMANDS, "predict", COMMANDS["probe"])
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert main(["predict"]) == 2
    assert capsys.readouterr().err == ""
    assert main(["probe"]) == 2
    assert capsys.readouterr().err == "its: mistyped\n"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems keep a current directory from being deleted")
def test_a_current_directory_that_was_deleted(tmp_path):
    (tmp_path / "gone").mkdir()
    code = (
        "import os, sys, its.cli; os.rmdir(os.getcwd()); sys.exit(its.cli.main(['predict', '--config', 'castle_bell']))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path / "gone", check=False
    )
    assert run.returncode == 2
    assert re.fullmatch(r"its: the current directory .*: change to another one\n", run.stderr)
