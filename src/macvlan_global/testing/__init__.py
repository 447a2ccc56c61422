"""Doubles and contract suites that ship with the package: a fake is held to the suite of the real thing."""
