"""Runs: what makes two of them the same, what is kept of each, and where."""
