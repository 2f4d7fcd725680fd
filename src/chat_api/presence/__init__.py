"""Who was heard of lately."""
