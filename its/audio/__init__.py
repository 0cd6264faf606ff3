"""Conversion between sounds, mel spectrograms and pictures."""
