"""Pages, studies and logs of runs."""
