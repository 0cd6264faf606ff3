"""Tiny random weights in the real layouts, for examples and tests."""
