"""Real training: data, the loop that trains several ways side by side, and what is counted and measured in it."""
