"""Score distillation, the baseline of the paper: a picture that is optimised."""
