"""The command line. Each command asks the running driver by its admin socket; `serve` is the driver itself."""
