"""First-party plugins: the paper's models and all their components, registered like third-party plugins."""
