"""Prepare the process of a benchmark: import packages from wheels and from the checkout, and silence libraries."""

from __future__ import annotations

import atexit
import importlib.util
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def use_wheels(folder: Path) -> None:
    """Unpack all wheels of a folder, which must be pure Python, and put them first on the import path.

    Raises:
        SystemExit: the folder has no wheels.
    """
    files = sorted(folder.glob("*.whl"))
    if not files:
        raise SystemExit(f"--wheels {folder}: expected a folder with .whl files, found none")
    target = tempfile.mkdtemp(prefix="wheels-")
    atexit.register(shutil.rmtree, target, ignore_errors=True)
    for wheel in files:
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(target)
    sys.path.insert(0, target)


def silence() -> None:
    """Disable progress bars and hints of libraries."""
    import logging
    import warnings

    import diffusers
    import transformers

    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for pattern in (".*does not have many workers.*", ".*isinstance.treespec, LeafSpec.*", ".*predict_dataloader.*"):
        warnings.filterwarnings("ignore", message=pattern)
    # A fallback to eager mode must not be measured as a CUDA graph.
    warnings.filterwarnings("error", message="continuing without CUDA graphs.*")


def use_checkout() -> None:
    """Make `its` and `its_plugins` importable from the checkout, unless they are installed."""
    for name, folder in (("its", ROOT / "its"), ("its_plugins", ROOT / "plugins")):
        if importlib.util.find_spec(name) is None:
            spec = importlib.util.spec_from_file_location(name, folder / "__init__.py")
            sys.modules[name] = module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
