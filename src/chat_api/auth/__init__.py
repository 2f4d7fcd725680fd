"""Registration, login, refresh and logout: the only domain that sees password hashes and tokens."""
