"""Stores: places off the host that hold copies of what is backed up."""
