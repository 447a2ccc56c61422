"""What Docker asks for, in our words: networks, endpoints, pools, and the repair that follows a crash."""
