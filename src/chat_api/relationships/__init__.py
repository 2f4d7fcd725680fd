"""Friendships and blocks between users."""
