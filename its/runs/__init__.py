"""Writing and reading of run directories."""
