"""The intermediate representation: types, operations as rows, and the graph. Knows neither SymPy nor TensorFlow."""
