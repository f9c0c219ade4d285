"""Training graphs, what their ops do, and what that costs: the part of trainwatt that needs no torch."""
