"""The model types fitted here: linear and logistic regression, boosted trees, k-means."""
