"""How it is asked: one module a command; each parses, calls one function, prints."""
