"""The click commands, one module per verb or group."""
