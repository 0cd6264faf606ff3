"""What to make: prompts, seeds, sweeps and media, as one spec a sample."""
