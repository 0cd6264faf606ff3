"""Joint denoising, independent of Lightning and of files."""
