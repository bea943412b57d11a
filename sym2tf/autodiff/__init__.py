"""Differentiation, graph to graph: reverse and forward mode, and the derivatives that are made of them."""
