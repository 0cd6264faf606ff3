"""Configs: YAML and the command line to one checked mapping."""
