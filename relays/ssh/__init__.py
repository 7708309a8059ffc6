"""SSH: what happens between an authenticated client and its target."""
