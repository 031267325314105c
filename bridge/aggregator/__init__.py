"""The Aggregator's config.json: in comes the file as it is, out come its machines and all that is wrong with them.

ConfigUnreadable            the file as a whole can't be used; raised by `load`, nothing else is
Config.problems             what is wrong with the file, `Problem` by `Problem`
MachineEntry.problems       what is wrong with one machine; the others are served all the same
"""

from bridge.aggregator.config import Config, load
from bridge.aggregator.credential import Credential, Secret
from bridge.aggregator.entry import ConfigVersion, MachineEntry
from bridge.aggregator.problem import ConfigUnreadable, Problem, Severity

__all__ = [
    "Config",
    "ConfigUnreadable",
    "ConfigVersion",
    "Credential",
    "MachineEntry",
    "Problem",
    "Secret",
    "Severity",
    "load",
]
