"""Fitting a device to measurements, and the error that remains."""
