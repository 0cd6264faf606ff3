"""Noise experts and their weights."""
