"""A user's own settings: one JSON value for each key."""
