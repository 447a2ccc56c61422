"""The only rooms that know netlink and network namespaces."""
