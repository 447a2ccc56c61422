"""Docker's remote network and IPAM driver protocol: messages, their bytes, and the socket they come by.

Source: Docker's `docs/remote.md` and `docs/ipam.md` of libnetwork, and what engines 20.10 to 29 really send.
"""
