"""Addresses: which pool, which address next, and who holds it."""
