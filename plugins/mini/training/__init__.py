"""How the embedded pack was trained; not part of the wheel."""
