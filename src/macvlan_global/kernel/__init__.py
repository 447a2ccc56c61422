"""The kernel: links by rtnetlink, network namespaces of containers, and probing a segment for addresses (ARP, NDP)."""
