"""Ways to make images that sound, each a LightningModule with the same outside face."""
