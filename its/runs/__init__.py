"""Run directories: what is written into them, and read from them."""
