"""Compose and check configs from YAML files and the command line."""
