"""What a minimum says about the parameters."""
