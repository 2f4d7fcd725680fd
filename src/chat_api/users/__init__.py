"""A user's own profile, and finding others."""
