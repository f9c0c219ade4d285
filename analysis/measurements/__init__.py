"""Measured values in one tidy format: one row a value, validated where it is made and where it is read."""
