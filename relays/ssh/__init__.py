"""SSH: Conch's protocols on the loop's transports, with the algorithms, limits and checks that Conch lacks."""
