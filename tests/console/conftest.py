"""The gateway of the integration floor, on a socket."""

from tests.integration.gateway.conftest import make_house, model

__all__ = ["make_house", "model"]
