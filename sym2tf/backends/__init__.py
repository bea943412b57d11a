"""What a graph becomes: values (numpy, mpmath), mathematics (sympy), a TensorFlow program (tensorflow)."""
