"""Latent codecs."""
