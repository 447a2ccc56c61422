"""The driver: networks, endpoints and addresses of this host, as Docker asks for them."""
