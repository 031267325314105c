"""What asyncua lacks or does slowly, free of any domain: compiled types, and machines as templates plus values.

In: a host and port, users, a certificate folder, and for each kind of machine a template; then written values
and events. Out: an OPC UA server whose address space holds the standard namespace, eleven companion models and the
instances, at a few kilobytes and microseconds an instance.

How to use it::

    from asyncua import ua
    from bridge.opcua import Addition, BuildInfo, Limits, OpcUaServer, Users

    server = OpcUaServer(
        host="127.0.0.1", port=4840,                       # port 0 takes a free one: see server.endpoint_url
        instance_namespace_uri="urn:example:plant-1",      # namespace of all instances; keep it for ever
        application_name="Example", certificate_folder=Path("pki"),
        users=Users(Path("users.json")), anonymous=False,
        trust=TrustList(Path("pki")),                      # the certificates of the clients that may connect
        build_info=BuildInfo(product_uri=..., manufacturer=..., product=..., version=...),
        limits=Limits(sessions=100),                       # how much it does for its clients; all have defaults
    )
    template = server.build_template(                      # once per kind of machine, before or after start()
        server.node_id("am", 1005),
        include=["mt:Monitoring/mach:Process"],            # optional declarations wanted (their parents come along)
        additions=[
            Addition(parent="mt:Monitoring/mach:Process", browse_name="own:Tool 0",
                     type_id=server.node_id("am", 1002), include=["padim:AnalogSignal/EURange"]),
            Addition(parent="mt:Production/mt:ActiveProgram", browse_name="own:Progress",
                     type_id=ua.NodeId(ua.ObjectIds.AnalogUnitRangeType), data_type=ua.NodeId(ua.ObjectIds.Double)),
        ],
        constants={"Monitoring.Process.Tool 0.AnalogSignal.EURange": ua.Variant(ua.Range(0, 300))},
        data_types={"Some.Number": ua.NodeId(ua.ObjectIds.Double)},   # narrower than an abstract declaration
        notifiers=["", "Notification.Messages"],           # objects that accept event subscriptions; "" is the root
    )
    template.on_call("Some.Method", callback)              # async (instance, *variants) -> variants | StatusCode
    await server.start()                                   # listens; raises AddressUnavailable when the port is taken
    instance = server.add_instance("printer-1", "Printer 1", template, parent=server.node_id("mach", 1001))
    instance.write("Monitoring.Process.Tool 0.AnalogSignal", ua.Variant(210.5), source_time)
    instance.read("Monitoring.Process.Tool 0.AnalogSignal")   # -> ua.DataValue
    instance.node_id("Monitoring.Process")                    # -> ns=13;s=printer-1.Monitoring.Process
    server.emit_event(                                        # also reaches subscribers of the Server object
        instance, ["", "Notification.Messages"], server.node_id("mt", 35),
        {"Message": ua.LocalizedText("Done"), "Severity": 300, "Identifier": "..."},
    )
    instance.rename("Left printer")                           # the display name; NodeIds stay
    instance.refit(other_template)                            # other nodes; what both templates have goes on
    server.remove_instance("printer-1")
    await server.stop()

Two notations for places in a template:

* a **browse path** says which declaration is meant, so it names namespaces: ``mt:Monitoring/mach:Process``. The
  prefixes are those of ``server.namespaces``: di, ia, mach, irdi, padim, pv, isa, jobs, res, mt, am; ``own`` is the
  instance namespace; no prefix is the standard namespace. ``include`` and ``Addition`` use browse paths.
* a **path** says which node of an instance is meant: the browse names joined by ".", without prefixes:
  ``Monitoring.Process.Tool 0``. It is what follows the name in the NodeId, and is unique in a template. A "." or
  "%" inside a single name is written ``%2E`` or ``%25`` (``bridge.opcua.names``). The root's path is "". All else
  uses paths.

``template.paths`` maps each path to its TemplateNode (``node_class``, ``data_type``, ``value_rank``,
``modelling_rule``, ``type_definition``, ``browse_name``, ``constant``); ``instance.unwritten()`` lists the
variables that nobody wrote yet (they read as a neutral value with status UncertainInitialValue). ``source_time``
is a datetime with a time zone or an integer of 100 ns ticks since 1601-01-01 (``ticks_now()``); ``status`` is a
status code number (``ua.StatusCodes...``); a Bad status hides the value from clients but the instance keeps it:
``instance.set_status(path, status, source_time)`` changes the status alone.

Errors all derive from OpcUaError: AddressUnavailable, CertificateError, UsersError, TrustError,
TemplateError, InstanceError.
"""

from .declarations import Addition
from .errors import (
    AddressUnavailable,
    CertificateError,
    InstanceError,
    OpcUaError,
    TemplateError,
    TrustError,
    UsersError,
)
from .instances import Instance
from .limits import Limits
from .server import BuildInfo, OpcUaServer
from .template import Template, TemplateNode
from .times import ticks_now, to_datetime, to_ticks
from .trust import TrustList
from .users import Role, Users

__all__ = [
    "Addition",
    "AddressUnavailable",
    "BuildInfo",
    "CertificateError",
    "Instance",
    "InstanceError",
    "Limits",
    "OpcUaError",
    "OpcUaServer",
    "Role",
    "Template",
    "TemplateError",
    "TemplateNode",
    "TrustError",
    "TrustList",
    "Users",
    "UsersError",
    "ticks_now",
    "to_datetime",
    "to_ticks",
]
