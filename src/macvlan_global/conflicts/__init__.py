"""Passive conflict watch: devices that use addresses of our containers, of hosts or of gateways."""
