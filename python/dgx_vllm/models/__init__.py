"""Downloaded models: their names, sizes, last use, and removal."""
