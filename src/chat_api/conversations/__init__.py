"""Conversations of two, or of a group."""
