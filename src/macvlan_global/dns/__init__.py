"""Names of containers on every host: a table fed by the store, a resolver that answers from it, and its publisher."""
