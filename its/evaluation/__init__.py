"""How good samples are: scores of run folders, tables of them, and which samples are best."""
