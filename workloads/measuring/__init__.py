"""Measuring on this machine: single ops of a designed set, and whole training steps."""
