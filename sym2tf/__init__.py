"""sym2tf: mathematics from SymPy to fast numerics."""
