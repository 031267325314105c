"""Paths of instance nodes as they stand in NodeIds: names joined by ".", and "." and "%" inside a name escaped."""


def escaped(name: str) -> str:
    """The name as one part of a path: `Mk. 3` becomes `Mk%2E 3`."""
    return name.replace("%", "%25").replace(".", "%2E")


def joined(path: str, name: str) -> str:
    """The path of the node called `name` below `path`; the root's path is empty."""
    return f"{path}.{escaped(name)}" if path else escaped(name)
