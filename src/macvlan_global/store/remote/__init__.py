"""Cluster stores: Consul and etcd over HTTP, and what both need (members, batches of writes, leases)."""
