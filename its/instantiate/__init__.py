"""Construct objects from YAML values: the only instantiator."""

from its.instantiate.faults import Fault, raise_faults, unknown_names
from its.instantiate.instantiator import (
    Instantiator,
    PluginRules,
    Rules,
    Text,
    construct,
    instantiate,
    plugin_class,
    spec_of,
)
from its.instantiate.signatures import parameters, plain

__all__ = [
    "Fault",
    "Instantiator",
    "PluginRules",
    "Rules",
    "Text",
    "construct",
    "instantiate",
    "parameters",
    "plain",
    "plugin_class",
    "raise_faults",
    "spec_of",
    "unknown_names",
]
