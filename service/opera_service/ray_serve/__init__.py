"""The service on Ray Serve: any number of replicas, each with an engine of its own, behind one address.

Only `app`, `replica` and `router` need Ray; who may serve what, and the rest, is plain code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve import Application


def build_app(args: dict[str, Any]) -> Application:
    """Return the application that a Serve configuration names as `opera_service.ray_serve:build_app`.

    `args` are settings of `opera-reward serve`, named as in its YAML file. Secrets and whatever else differs
    between nodes come from the environment (`OPERA_…`) of the replicas; address, port and TLS are Serve's. Raises
    `SettingsError` for what must stop the start.
    """
    from opera_service.ray_serve.app import app_with

    return app_with(args)
