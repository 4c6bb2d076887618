"""Columns of a training table as a model's inputs."""
