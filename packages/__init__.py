"""Packages of the driver: the Debian package, the sdist and the wheel, and the bill of their materials."""
