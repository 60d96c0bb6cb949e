"""Prints what the extra `peers` of the installed project asks for, one requirement a line."""

from importlib.metadata import requires

for requirement in requires("zforcing-tf") or ():
    name, _, marker = requirement.partition(";")
    if "extra" in marker and "peers" in marker:
        print(name.strip())
