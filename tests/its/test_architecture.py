"""Imports between packages follow docs/architecture.md."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS = (
    "privacy",
    "environment",
    "errors",
    "output",
    "audio",
    "media",
    "user_cache",
    "interfaces",
    "registry",
    "instantiate",
    "weights",
    "diffusion",
    "testing",
    "specs",
    "methods",
    "runs",
    "evaluation",
    "report",
    "config",
    "engine",
    "pipeline",
    "app",
    "commands",
    "cli",
    "__main__",
)
"""Packages of `its`, and modules at its root, lowest first: each imports itself and those below, never one above."""

PUBLIC = {
    "interfaces",
    "registry",
    "audio",
    "privacy",
    "errors",
    "output",
    "media",
    "weights",
    "diffusion",
    "testing",
    "user_cache",
}
"""What plugins may import of `its`."""

HEAVY = (
    "torch",
    "lightning",
    "diffusers",
    "transformers",
    "torchaudio",
    "wandb",
    "soundfile",
    "PIL",
    "av",
    "jinja2",
    "jsonargparse",
    "gradio",
    "fastapi",
)


def modules(folder, package):
    """Dotted name -> file, of every module of a package."""
    names = {}
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = [package, *path.relative_to(ROOT / folder).with_suffix("").parts]
        names[".".join(part for part in parts if part != "__init__")] = path
    return names


ITS = modules("its", "its")
PLUGINS = modules("plugins", "its_plugins")


def imports(path, *, at_run_time=False):
    """(module, name or None) of every import of a file; `at_run_time` leaves out those for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = set()
    for node in ast.walk(tree):
        if at_run_time and isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            skipped.update(id(inner) for statement in node.body for inner in ast.walk(statement))
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from ((node.module, alias.name) for alias in node.names)


def of_its(module, name):
    """First part below `its` that an import names; None where it names another package, "" for `its` itself."""
    package, *inner = module.split(".")
    if package != "its":
        return None
    if inner:
        return inner[0]
    return name if name is not None and f"its.{name}" in ITS else ""


layer = LAYERS.index


def test_every_package_has_a_layer():
    assert {name.split(".")[1] for name in ITS if name != "its"} == set(LAYERS)


def test_the_document_lists_the_layers_from_top_to_bottom():
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("## Packages")[2].partition("## Interfaces")[0]
    assert re.findall(r"^\|[^|]*\| `(\w+)/?` \|", table, re.MULTILINE) == list(reversed(LAYERS[:-1]))


def test_no_source_is_ignored_by_git():
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--ignored", "--exclude-standard", "its", "plugins", "tests"],
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    if listed.returncode:
        pytest.skip("this is no checkout of git")
    assert [path for path in listed.stdout.split() if "__pycache__" not in path and ".egg-info" not in path] == []


def test_the_wheel_holds_every_package_but_the_training_of_the_pack():
    folders = {(name, ROOT / folder) for name, folder in (("its", "its"), ("its_plugins", "plugins"))}
    packages = {
        ".".join([name, *path.parent.relative_to(folder).parts])
        for name, folder in folders
        for path in folder.rglob("__init__.py")
    }
    tool = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert set(tool["packages"]) == packages - {"its_plugins.mini.training"} | {"its.configs"}
    for package, patterns in tool["package-data"].items():
        folder = ROOT / package.replace("its_plugins", "plugins").replace("its.configs", "configs").replace(".", "/")
        assert all(list(folder.glob(pattern)) for pattern in patterns), package


def test_interfaces_imports_no_module_of_its_at_run_time():
    ours = [m for m, _ in imports(ITS["its.interfaces"], at_run_time=True) if m.split(".")[0] == "its"]
    assert ours == []


@pytest.mark.parametrize("name", [name for name in ITS if name != "its"])
def test_module_imports_no_package_above_its_own(name):
    own = layer(name.split(".")[1])
    for module, imported in imports(ITS[name]):
        part = of_its(module, imported)
        if part:
            assert layer(part) <= own, f"{name} imports {module}"


@pytest.mark.parametrize("name", [name for name in ITS if name != "its"])
def test_only_the_lightning_side_imports_lightning(name):
    if layer(name.split(".")[1]) < layer("specs"):
        packages = {module.split(".")[0] for module, _ in imports(ITS[name])}
        assert packages.isdisjoint({"lightning", "jsonargparse"}), f"{name} imports {packages}"


@pytest.mark.parametrize("name", ITS)
def test_its_names_no_plugin(name):
    tree = ast.parse(ITS[name].read_text(encoding="utf-8"))
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    named = [module for module, _ in imports(ITS[name])] + texts
    assert [n for n in named if n.split(".")[0] == "its_plugins"] == []


@pytest.mark.parametrize("name", PLUGINS)
def test_plugin_imports_public_modules_and_public_names_alone(name):
    for module, imported in imports(PLUGINS[name]):
        part = of_its(module, imported)
        allowed = PUBLIC | ({"runs"} if name.startswith("its_plugins.mini.training") else set())  # which is no plugin
        assert part is None or part == "" or part in allowed, f"{name} imports {module}, which is not for plugins"
        if module.split(".")[0] in ("its", "its_plugins"):
            private = [p for p in (*module.split("."), imported or "") if p.startswith("_")]
            assert private == [], f"{name} imports {imported} of {module}"


def imported_by(code, names):
    """Which of these packages are there after some code has run in a fresh Python."""
    code += f"\nimport sys\nprint(*[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.split()


@pytest.mark.parametrize("code", ["import its", "import its.cli", "import its.cli; its.cli.main(['--help'])"])
def test_the_front_door_imports_nothing_heavy(code):
    quiet = f"import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n    {code}"
    assert imported_by(quiet, HEAVY) == []


def test_only_the_page_imports_gradio():
    foreign = ("gradio", "fastapi", "uvicorn", "starlette")
    users = {name for name, path in ITS.items() for module, _ in imports(path) if module.split(".")[0] in foreign}
    assert users, "no module imports gradio"
    assert {name.split(".")[1] for name in users} == {"app"}


def test_listing_plugins_and_methods_does_not_import_lightning():
    quiet = "import contextlib, io\nwith contextlib.redirect_stdout(io.StringIO()):\n    "
    assert imported_by(quiet + "import its.cli; its.cli.main(['plugins'])", ("lightning", "diffusers")) == []


def test_plugins_import_their_libraries_where_they_use_them():
    code = "from its import registry\nregistry.load_plugins()\nassert registry.failures() == {}, registry.failures()"
    assert (
        imported_by(code, ("diffusers", "transformers", "torchaudio", "lightning", "wandb", "soundfile", "PIL")) == []
    )
