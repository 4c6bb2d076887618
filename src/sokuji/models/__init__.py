"""Versions of models, their files and aliases."""
