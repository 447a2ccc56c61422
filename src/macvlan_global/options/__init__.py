"""Options of networks (`-o`) and endpoints (`--driver-opt`) as typed values. Pure."""
