"""Colorizers."""
