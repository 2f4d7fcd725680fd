"""Notifications of a user; the notifier service makes them, the user reads them."""
