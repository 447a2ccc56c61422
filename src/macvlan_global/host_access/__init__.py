"""Host access: the host and its containers reach each other over a shim, a macvlan link of the host itself on the
parent (`-o host_access=true`). `desired` decides which shims, addresses and routes there must be (pure), `access` makes
it so.
"""
