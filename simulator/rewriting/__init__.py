"""Rewriting graphs: the editor, the ops it adds, and the parts that several techniques are made of."""
