"""The command `its plugins`."""

from __future__ import annotations

from collections.abc import Sequence

from its.output import say


def plugins(*, trust: Sequence[str] = ()) -> int:
    """List the classes for configs: experts, combiners, schedulers, vocoders and others.

    Packs of weights and plugins that failed to import come last.

    Args:
        trust: additional modules to import.

    Raises:
        UserError: a module can't be imported.
    """
    from its import registry
    from its.interfaces import INTERFACES
    from its.methods.classes import FIRST_PARTY

    registry.load_plugins()
    registry.load_modules(trust)
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
    for name, reason in registry.failures().items():
        say(f"failed to import: {name}: {reason}")
    return 0
