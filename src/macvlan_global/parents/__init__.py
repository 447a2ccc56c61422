"""Parents: choosing a network's parent interface, and the VLAN sub-interfaces and dummies that the driver owns."""
