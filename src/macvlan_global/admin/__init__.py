"""The local socket that the command line asks: status, tables and repair, for root only."""
