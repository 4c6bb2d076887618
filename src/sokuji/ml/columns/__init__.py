"""Turn the columns of a training table into the inputs of a model."""
