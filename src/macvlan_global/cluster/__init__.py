"""The hosts of the cluster: who this one is, which of them live, and giving back what dead ones held."""
