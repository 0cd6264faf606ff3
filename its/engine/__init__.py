"""Set up and run Lightning's predict loop, and the engines of `its colorize`, `its sonify` and `its doctor`."""
