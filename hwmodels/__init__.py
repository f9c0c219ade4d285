"""Devices (one TOML file each) and the models that price work on them."""
