"""A command line and the shell that reads it -> facts. The grammar is loaded when the first command is read."""
