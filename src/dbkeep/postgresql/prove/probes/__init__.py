"""The probes, by area. Importing `dbkeep.postgresql.prove.registry` loads them all."""
