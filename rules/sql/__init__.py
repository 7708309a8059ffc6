"""SQL text and a dialect -> facts. Nothing is loaded before the first statement is read."""
