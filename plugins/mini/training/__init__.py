"""Training of the embedded pack; not part of the wheel."""
