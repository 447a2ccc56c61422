"""`make run`: the seed's first example on this very machine, for real; `make stop` takes it away again.

What it may touch is named in `places` and `example`, and nothing else: an engine that runs is used as it is; one that
has to be started gets data, rules and cgroups of its own; the wire ends in a namespace, never at the machine's uplink.

`make demo` is the other one (`two_hosts`): two hosts and a store, in namespaces, of which nothing is left.
"""
