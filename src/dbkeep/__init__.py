"""dbkeep: provisions, hardens, backs up and keeps proving PostgreSQL, MongoDB and Redis."""
