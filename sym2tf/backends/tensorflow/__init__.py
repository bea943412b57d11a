"""A graph as a TensorFlow program: source, the function made from it, and direct calls."""
