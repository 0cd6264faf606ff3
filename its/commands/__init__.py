"""Commands beside `its predict`, a module each."""
