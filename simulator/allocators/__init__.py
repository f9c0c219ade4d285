"""Allocators: how a framework's memory manager turns live tensors into memory taken from the device."""
