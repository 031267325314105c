"""A plant under fault: printers, bridge and MES as real processes, what is done to them, and what came of it."""
