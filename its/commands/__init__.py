"""Commands of `its`, one module each."""
