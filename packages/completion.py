"""Completion for bash, zsh and fish: the scripts of `--show-completion`, where shells look for them."""

from typer._completion_shared import get_completion_script

from macvlan_global.cli.main import PROGRAM

PLACES = {
    "bash": f"usr/share/bash-completion/completions/{PROGRAM}",
    "zsh": f"usr/share/zsh/vendor-completions/_{PROGRAM}",
    "fish": f"usr/share/fish/vendor_completions.d/{PROGRAM}.fish",
}
"""Path of each shell's script, below /."""
_VARIABLE = f"_{PROGRAM.upper().replace('-', '_')}_COMPLETE"


def scripts() -> dict[str, str]:
    """Each script by its path below /."""
    return {
        path: get_completion_script(prog_name=PROGRAM, complete_var=_VARIABLE, shell=shell) + "\n"
        for shell, path in PLACES.items()
    }
