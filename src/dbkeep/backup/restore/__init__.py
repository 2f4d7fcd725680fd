"""Restores: engines of this host, or copies beside them, at a set, a point or a time."""
