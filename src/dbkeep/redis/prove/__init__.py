"""Proves the rights and limits of Redis by trying to break them: probes, the matrix of commands, and mutants."""
