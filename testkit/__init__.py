"""Doubles, contract suites and the simulation: a fake is held to the suite of the real thing. Not shipped."""
