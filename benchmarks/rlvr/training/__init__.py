"""Runs of policy gradient: what they are, how they go, and how they lie on disk."""
