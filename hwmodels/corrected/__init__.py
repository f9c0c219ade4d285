"""A device whose prices are corrected by what was measured on it: log-factors by class and by shape of an op."""
