"""`python -m macvlan_global`."""

from macvlan_global.cli.main import main

if __name__ == "__main__":
    main()
