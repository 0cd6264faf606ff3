"""Combiners."""
