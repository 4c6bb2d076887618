"""The models that are fitted here: linear and logistic regression, boosted trees, k-means."""
