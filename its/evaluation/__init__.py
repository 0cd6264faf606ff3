"""Scores of samples: scoring, tables, ranking and early stopping."""
