"""The collector is the application that the server's tests serve."""

from tests.track.conftest import collector

__all__ = ["collector"]
