"""Messages of a conversation: sent once, read by its participants only."""
