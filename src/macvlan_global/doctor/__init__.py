"""Diagnosis for `macvlan-global doctor`: facts from the edge, findings from pure functions."""
