"""Servers that the bridge is measured beside: the same number of machines, nodes and variables, no types."""
