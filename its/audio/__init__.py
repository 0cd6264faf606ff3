"""Spectrograms as pictures and as sounds."""
