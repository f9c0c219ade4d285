"""What people ask of estimates: the command line, tables, pictures, comparisons."""
