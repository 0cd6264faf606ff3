"""Lightning's predict loop: building it, its trainer, progress, and several processes."""
