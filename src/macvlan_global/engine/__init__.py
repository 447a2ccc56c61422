"""What the Docker Engine knows, asked on tasks of our own and never inside a plugin request."""
