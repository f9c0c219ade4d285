"""Networks as plain `torch.nn.Module`s, one file a family; `workloads.catalog` lists and builds them.

Builders decorated with `workloads.catalog.network` are found by reading these files, so a new network
needs a new file and nothing else. Weights start from PyTorch's default initialisation: the cost of a
training step does not depend on them.
"""
