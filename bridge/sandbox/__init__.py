"""A small MES to try the chain with: requests of ``docs/mes-api.yaml`` in, a page with machines and jobs out."""

from bridge.sandbox.server import SERVICE_ID, Sandbox, run
from bridge.sandbox.store import SandboxError

__all__ = ["SERVICE_ID", "Sandbox", "SandboxError", "run"]
