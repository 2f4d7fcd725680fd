"""The probes of Redis, by what they are about."""
