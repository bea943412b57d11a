"""SymPy to graph, one file per area of SymPy."""
