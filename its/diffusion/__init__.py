"""The maths of joint denoising, free of Lightning and files."""
