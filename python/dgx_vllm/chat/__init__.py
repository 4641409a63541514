"""A conversation with a running server, in a terminal or a pipe."""
