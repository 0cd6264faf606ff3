import gc
import subprocess
import sys

import pytest

from its.cli import COMMANDS, main


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert "its predict" in out
    assert "its plugins" in out


def test_help_imports_nothing_heavy():
    code = "import sys, its.cli; its.cli.main(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("enabled", [True, False])
def test_a_command_is_imported_without_garbage_collection(enabled, monkeypatch, tmp_path):
    (tmp_path / "probing_command.py").write_text("import gc\nwas = gc.isenabled()\ndef main(arguments): return was")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(COMMANDS, "probe", ("probing_command", ""))
    try:
        if not enabled:
            gc.disable()
        assert main(["probe"]) == 0
        assert gc.isenabled() == enabled
    finally:
        gc.enable()
        sys.modules.pop("probing_command", None)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("its 0.")


def test_an_unknown_command_names_the_nearest(capsys):
    assert main(["predikt"]) == 2
    assert "there is no command 'predikt'" in (err := capsys.readouterr().err)
    assert "Did you mean predict?" in err


def test_plugins_lists_interfaces_names_origins_and_summaries(capsys):
    assert main(["plugins"]) == 0
    out = capsys.readouterr().out
    assert "Scheduler\n  DDIM" in out
    assert "its_plugins.schedulers.ddim" in out
    assert "pack:mini" in out


def test_ctrl_c_is_no_traceback(monkeypatch, capsys):
    import its.commands.plugins

    def interrupted(arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(its.commands.plugins, "main", interrupted)
    assert main(["plugins"]) == 130
    assert "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["plugins", "--trust", "no.such.module"], ["predict", "--trust", "no.such"]])
def test_a_module_that_is_not_there(arguments, capsys):
    assert main(arguments) == 2
    assert "No module named 'no" in capsys.readouterr().err
