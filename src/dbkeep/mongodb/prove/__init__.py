"""Proves MongoDB by trying to break it: the matrix of privileges, bad documents, probes, and mutants of all of them."""
