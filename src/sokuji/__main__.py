"""`python -m sokuji`: the command line, also how the supervisor starts a role."""

from sokuji.cli import main

main(prog_name="sokuji")
