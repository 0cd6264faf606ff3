"""`its plugins`: list registered classes, methods and packs, and plugins that failed to import."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from its import registry
from its.interfaces import INTERFACES
from its.methods.classes import FIRST_PARTY
from its.output import say


def main(arguments: Sequence[str]) -> int:
    """Print the list; 0."""
    parser = argparse.ArgumentParser(prog="its plugins", description="List what configs can name.")
    parser.add_argument("--trust", action="append", default=[], metavar="MODULE", help="import this module too")
    options = parser.parse_args(arguments)
    registry.load_plugins()
    registry.load_modules(options.trust)
    listed = {
        interface: {name: (cls.__module__, registry.summary(cls)) for name, cls in registry.classes(interface).items()}
        for interface in (*INTERFACES, "Method")
    }
    listed["Method"] |= FIRST_PARTY
    for interface, classes in listed.items():
        say(interface)
        for name, (module, summary) in classes.items():
            say(f"  {name:20} {module:36} {summary}")
    say("Packs of weights")
    for pack in registry.packs().values():
        say(f"  pack:{pack.name:15} {pack.folder.name:36} {pack.summary}")
    for name, why in registry.failures().items():
        say(f"failed to import: {name}: {why}")
    return 0
