"""The run folder: samples, progress, and what came of every row."""
