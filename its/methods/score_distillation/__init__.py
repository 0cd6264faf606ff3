"""Score distillation sampling (SDS), a baseline of the paper."""
