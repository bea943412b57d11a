"""Jacobians and Hessians as what is in them: index pattern and values, or factors."""
