"""`its plugins`: what is registered, where it comes from, and what failed to import."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from its import registry
from its.interfaces import INTERFACES


def main(arguments: Sequence[str]) -> int:
    """Print the list; 0."""
    parser = argparse.ArgumentParser(prog="its plugins", description="List what configs can name.")
    parser.add_argument("--trust", action="append", default=[], metavar="MODULE", help="import this module too")
    options = parser.parse_args(arguments)
    registry.load_plugins()
    registry.load_modules(options.trust)
    for interface in INTERFACES:
        print(interface)
        for name, cls in registry.classes(interface).items():
            print(f"  {name:20} {cls.__module__:32} {registry.summary(cls)}")
    print("Packs of weights")
    for pack in registry.packs().values():
        print(f"  pack:{pack.name:15} {pack.folder.name:32} {pack.summary}")
    for name, why in registry.failures().items():
        print(f"failed to import: {name}: {why}")
    return 0
