"""The probes of MongoDB: a module an area."""
