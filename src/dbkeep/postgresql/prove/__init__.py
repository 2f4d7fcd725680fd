"""Proves the isolation of PostgreSQL by trying to break it: probes, the matrix of privileges, and mutants of both."""
