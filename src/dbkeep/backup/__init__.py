"""Backup, restore and drill of the three engines."""
