"""The intermediate representation: types, operations as rows, and the graph; no SymPy, no TensorFlow."""
