"""Joint denoising. Independent of Lightning and of files."""
