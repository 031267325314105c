"""The companion service: plugin pushes in, umati OPC UA and MES reports out."""

__version__ = "0.2.0"
