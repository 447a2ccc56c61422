"""Parents: choosing a network's parent interface, and the VLAN sub-interfaces and dummy links that we make for it."""
