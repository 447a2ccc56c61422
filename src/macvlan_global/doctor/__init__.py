"""What `macvlan-global doctor` looks at, and what it makes of it: facts from the edge, findings from pure functions."""
