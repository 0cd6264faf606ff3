"""Construct objects from YAML values."""

from its.instantiate.faults import Fault, raise_faults, unknown_names
from its.instantiate.instantiator import Instantiator, construct, instantiate
from its.instantiate.rules import Rules, plugin_class, spec_of
from its.instantiate.signatures import parameters, plain
from its.instantiate.yaml_values import Text

__all__ = [
    "Fault",
    "Instantiator",
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
