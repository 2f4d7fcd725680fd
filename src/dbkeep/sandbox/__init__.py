"""Throw-away real servers in a folder, for tests, drills and `dbkeep sandbox`."""
