"""What several runnable techniques are made of."""
