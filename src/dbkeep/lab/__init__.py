"""Test hosts: real Debian machines of our own, each with its systemd and its own network namespace."""
