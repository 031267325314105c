"""Methods of instances (Part 4, 5.12): callbacks of their template, called with the arguments that they declare.

In: calls, by a method's own id or that of its declaration. Out: what the callback gives, or why it was not called.
"""

from collections.abc import Sequence

import structlog
from asyncua import ua
from asyncua.common.utils import Buffer
from asyncua.server.address_space import MethodService
from asyncua.ua.ua_binary import variant_from_binary

from .instances import InstanceNode
from .space import LazyAddressSpace
from .template import TemplateNode
from .values import ValueType, value_type

log = structlog.get_logger(__name__)

Codes = ua.StatusCodes
_INPUT_ARGUMENTS = ua.QualifiedName("InputArguments", 0)


def method_of(space: LazyAddressSpace, call: ua.CallMethodRequest) -> TemplateNode | None:
    """The method of an instance that is called; None when the instance has none such."""
    owner, called = space.get(call.ObjectId), space.get(call.MethodId)
    if called is None or not isinstance(owner, InstanceNode):
        return None
    name = called.attributes[ua.AttributeIds.BrowseName].value.Value.Value
    node = next((child for child in owner.node.children if child.browse_name == name), None)
    return node if node is not None and node.node_class is ua.NodeClass.Method else None


class LazyMethodService(MethodService):
    """asyncua's method service, and the methods of instances."""

    _aspace: LazyAddressSpace

    async def _call(self, method: ua.CallMethodRequest) -> ua.CallMethodResult:
        owner = self._aspace.get(method.ObjectId)
        if not isinstance(owner, InstanceNode):
            return await super()._call(method)
        node = method_of(self._aspace, method)
        if node is None:
            return _refused(Codes.BadMethodInvalid)
        if node.method is None:
            return _refused(Codes.BadNotImplemented)
        arguments = method.InputArguments or []
        refused = self._refusal(node, arguments)
        if refused is not None:
            return refused
        try:
            result = await node.method(owner.instance, *arguments)
        except Exception:
            log.exception("a method failed", machine=owner.instance.name, method=node.path)
            return _refused(Codes.BadInternalError)
        answer = result if isinstance(result, ua.CallMethodResult) else ua.CallMethodResult()
        if isinstance(result, ua.StatusCode):
            answer.StatusCode = result
        elif isinstance(result, list):
            answer.OutputArguments = result
        answer.InputArgumentResults = [ua.StatusCode() for _ in arguments]
        return answer

    def _refusal(self, method: TemplateNode, arguments: Sequence[ua.Variant]) -> ua.CallMethodResult | None:
        """What is to be said of arguments that are not those declared (Part 4, 5.12.2); None when they are."""
        wanted = list(self._arguments(method))
        if len(arguments) != len(wanted):
            missing = len(arguments) < len(wanted)
            return _refused(Codes.BadArgumentsMissing if missing else Codes.BadTooManyArguments)
        results = [
            ua.StatusCode(ua.UInt32(0 if _takes(kind, argument) else Codes.BadTypeMismatch))
            for kind, argument in zip(wanted, arguments, strict=True)
        ]
        if all(result.is_good() for result in results):
            return None
        answer = _refused(Codes.BadInvalidArgument)
        answer.InputArgumentResults = results
        return answer

    def _arguments(self, method: TemplateNode) -> Sequence[ValueType]:
        declared = next((child for child in method.children if child.browse_name == _INPUT_ARGUMENTS), None)
        if declared is None:
            return []
        arguments: Sequence[ua.Argument] = variant_from_binary(Buffer(declared.default)).Value or []
        return [value_type(self._aspace, one.DataType, one.ValueRank) for one in arguments]


def _takes(kind: ValueType, argument: ua.Variant) -> bool:
    try:
        kind.variant(argument)
    except TypeError:
        return False
    if kind.built_in is not ua.VariantType.ExtensionObject:
        return True
    structure = ua.extension_objects_by_datatype.get(kind.data_type, object)
    values = (argument.Value or []) if argument.is_array else [argument.Value]
    return all(isinstance(value, structure) for value in values)


def _refused(code: int) -> ua.CallMethodResult:
    return ua.CallMethodResult(ua.StatusCode(ua.UInt32(code)))
