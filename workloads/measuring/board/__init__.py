"""What also runs on a board that has only Python 3.6 and torch 1.4: `workloads.measuring.emit` joins it into one file.

So this folder keeps to that Python, imports only the standard library, torch where it must, and itself.
"""
