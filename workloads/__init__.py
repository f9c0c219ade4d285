"""Networks and the tracer: the only package that imports torch."""
