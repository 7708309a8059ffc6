"""The demonstration: a real AutoGen agent runs generated code through the gate, and everything that is claimed is checked from outside."""
