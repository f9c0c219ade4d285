"""Predicted against measured: whole steps, techniques, peak memory and single ops."""
