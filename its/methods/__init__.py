"""Methods: each is a LightningModule that turns sample specs into samples in memory."""
