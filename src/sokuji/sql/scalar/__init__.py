"""GoogleSQL's scalar expressions evaluated over one Arrow batch."""
