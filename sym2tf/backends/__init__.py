"""What a graph becomes: values (numpy, mpmath), mathematics again (sympy), a TensorFlow program (tensorflow)."""
