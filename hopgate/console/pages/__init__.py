"""The pages, one module a subject. Each function takes a Call whose sender is known and may, and gives the answer."""
