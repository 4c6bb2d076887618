"""`python -m sokuji`: the command line. The supervisor also starts roles with it."""

from sokuji.cli import main

main(prog_name="sokuji")
