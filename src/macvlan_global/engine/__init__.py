"""The Docker Engine's API, called on tasks of our own and never inside a plugin request."""
