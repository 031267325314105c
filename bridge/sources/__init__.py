"""Where events come from: what plugins push, what the bridge itself notices, what OctoPrint answers."""
