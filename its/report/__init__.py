"""Galleries, studies and W&B logs of runs."""
