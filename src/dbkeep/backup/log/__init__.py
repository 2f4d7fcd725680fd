"""The engines' logs: cut into sealed slices and shipped to every store."""
