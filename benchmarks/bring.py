"""Packages that a machine lacks, brought along as wheels, and this project where it isn't installed."""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def wheels(folder: Path) -> None:
    """Unpack every wheel of a folder and import from there first. Pure Python needs no more than that.

    Raises:
        SystemExit: there is none.
    """
    found = sorted(folder.glob("*.whl"))
    if not found:
        raise SystemExit(f"--wheels {folder}: there is no .whl in it")
    target = tempfile.mkdtemp(prefix="wheels-")
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    for wheel in found:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    sys.path.insert(0, target)


def project() -> None:
    """Make `its` and `its_plugins` importable from the checkout, where no installation does."""
    if importlib.util.find_spec("its") is None:
        sys.path.insert(0, str(ROOT))
    if importlib.util.find_spec("its_plugins") is None:
        folder = ROOT / "plugins"
        spec = importlib.util.spec_from_file_location(
            "its_plugins", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules["its_plugins"] = module
        spec.loader.exec_module(module)
