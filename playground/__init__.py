"""Something real to guard: a billing API, a demonstration that drives an agent against it, and benchmarks."""
