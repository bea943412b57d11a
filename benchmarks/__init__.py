"""How fast sym2tf is beside its peers; `python -m benchmarks` runs everything and writes the tables."""
