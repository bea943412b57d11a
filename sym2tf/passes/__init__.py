"""Passes: graph in, better graph out. Rules and their engine, sharing, reductions, machine operations, the pipeline."""
