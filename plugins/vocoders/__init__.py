"""Vocoders."""
