"""Training sets: the features that a profile had at the time of each label, computed from the lake."""
