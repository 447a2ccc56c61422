"""Replication of networks: every host's engine gets the networks that the cluster defines, and loses removed ones."""
