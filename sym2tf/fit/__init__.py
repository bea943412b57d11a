"""From a symbolic cost and data to estimated parameters: statement, problem class, solver, result."""
