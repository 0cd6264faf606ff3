"""Fixtures of run directories."""

from run_directories import add, browse, chromium  # noqa: F401 - fixtures
