"""What watches over a running fit: history, progress, journals, checkpoints."""
