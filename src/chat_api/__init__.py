"""The reference chat API: uses the three stores exactly as an application should, as their least-privileged users."""
