"""Noise experts, and what loads them."""
