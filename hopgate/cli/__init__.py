"""The command line. Its modules import what they need inside each command, so that `hopgate --help` answers at once."""
