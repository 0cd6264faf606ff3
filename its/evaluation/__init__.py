"""Scoring of samples: scores, tables, ranking and early stopping."""
