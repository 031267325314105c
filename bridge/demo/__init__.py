"""MESBridge shown at work: a throw-away OctoPrint, a bridge, a small MES."""
