"""Reconciliation: compare state, kernel and engine, and correct the differences."""
