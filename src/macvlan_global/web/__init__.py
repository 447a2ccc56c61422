"""The page: everything that the commands show, in a browser, live and read only."""
