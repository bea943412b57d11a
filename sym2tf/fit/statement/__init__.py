"""What the user states, checked and as graphs: a cost or equations, data, parameters; and the class of the problem."""
