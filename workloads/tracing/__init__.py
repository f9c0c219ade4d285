"""Recording one real eager training step without memory and without arithmetic."""
