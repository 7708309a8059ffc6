"""Benchmarks that prove that what they measured was done: every request decided, recorded and masked."""
