"""Expand prompts, media prompts, seeds and sweeps into one spec for each sample."""
