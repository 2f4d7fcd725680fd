"""Whether the process lives, and whether its stores answer."""
