"""A result as text, pictures and files."""
