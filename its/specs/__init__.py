"""Turn prompts, seeds, sweeps and media prompts into one spec for each sample."""
