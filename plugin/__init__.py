"""Builds the managed plugin, the form in which Docker's swarm mode takes a driver."""
