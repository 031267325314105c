"""What Server/ServerCapabilities (Part 5, 6.3.2) says: the limits that are kept, and nothing that is not.

In: the limits. Out: values by the number of their node.
"""

from collections.abc import Iterator

from asyncua import ua

from .limits import Limits

Ids = ua.ObjectIds
Type = ua.VariantType
PROFILES = ["http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"]
LOCALES = ["en"]
_PREFIX = "Server_ServerCapabilities_"
_OPERATIONS = "OperationLimits_Max"


def capabilities(limits: Limits, shortest_interval: float) -> Iterator[tuple[ua.NodeId, ua.Variant]]:
    """All properties of Server/ServerCapabilities and of its OperationLimits; the interval is in milliseconds."""
    counts = {
        "MaxSessions": limits.sessions,
        "MaxSubscriptions": limits.subscriptions,
        "MaxSubscriptionsPerSession": limits.subscriptions_per_session,
        "MaxMonitoredItems": limits.monitored_items,
        "MaxMonitoredItemsPerSubscription": limits.monitored_items_per_subscription,
        "MaxMonitoredItemsQueueSize": limits.queue_size,
        "MaxSelectClauseParameters": limits.select_clauses,
        "MaxWhereClauseParameters": limits.where_elements,
        "MaxArrayLength": limits.array_length,
        "MaxStringLength": limits.message_size,
        "MaxByteStringLength": limits.message_size,
        **{
            name.removeprefix(_PREFIX): limits.operations
            for name in vars(Ids)
            if name.startswith(_PREFIX + _OPERATIONS)
        },
        "OperationLimits_MaxNodesPerMethodCall": limits.method_calls,
    }
    continuation_points = {
        "MaxBrowseContinuationPoints": limits.continuation_points,
        "MaxQueryContinuationPoints": 0,
        "MaxHistoryContinuationPoints": 0,
    }
    values = {
        "ServerProfileArray": ua.Variant(PROFILES, Type.String),
        "LocaleIdArray": ua.Variant(LOCALES, Type.String),
        "MinSupportedSampleRate": ua.Variant(shortest_interval, Type.Double),
        "SoftwareCertificates": ua.Variant([], Type.ExtensionObject, is_array=True),
        "ConformanceUnits": ua.Variant([], Type.QualifiedName, is_array=True),
        **{name: ua.Variant(count, Type.UInt32) for name, count in counts.items()},
        **{name: ua.Variant(count, Type.UInt16) for name, count in continuation_points.items()},
    }
    for name, value in values.items():
        yield ua.NodeId(getattr(Ids, _PREFIX + name)), value
