"""Costs, residuals and their derivatives as numbers at a point."""
