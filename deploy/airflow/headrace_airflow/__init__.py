"""headrace jobs in Airflow, through the gateway that `headrace serve` runs."""

from headrace_airflow.gateway import GatewayError, GatewayHook
from headrace_airflow.jobs import HeadraceJobOperator, HeadraceJobSensor, HeadraceJobTrigger

__all__ = [
    "GatewayError",
    "GatewayHook",
    "HeadraceJobOperator",
    "HeadraceJobSensor",
    "HeadraceJobTrigger",
]
