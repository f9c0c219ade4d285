"""Choosing for a budget: what to train, with which techniques, at which batch size."""
