"""Tiny random weights in the layouts of real models, for examples and tests."""
