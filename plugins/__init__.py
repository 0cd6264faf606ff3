"""First-party plugins: the paper's models and everything they need, found as anybody's are."""
