"""An object for each session below SessionsDiagnosticsSummary (Part 5, 6.3.4 and 6.3.5), made when somebody looks.

In: the sessions that there are. Out: nodes of the instance namespace, for operators and the session's own user; the
NodeId of the object is the SessionId (Part 4, 5.7.2). Nothing is kept of them.
"""

from collections.abc import Callable, Iterable
from typing import Any

from asyncua import ua
from asyncua.server.address_space import NodeData

from .diagnostics import array_of, of_security, of_session, of_subscription, shown
from .instances import Instance, Instances
from .readers import READING, made_once
from .sessions import Session
from .template import Template, TemplateNode
from .typetable import good

FOLDER = ua.NodeId(ua.ObjectIds.Server_ServerDiagnostics_SessionsDiagnosticsSummary)
TYPE = ua.NodeId(ua.ObjectIds.SessionDiagnosticsObjectType)
_INSECURE = ua.StatusCode(ua.StatusCodes.BadSecurityModeInsufficient)
_SECURITY = "SessionSecurityDiagnostics"
_BY_PART = "sessions by the first part of their NodeIds"  # made once for each request
_RENAMED = {"Encoding": "Encoding_"}
_MAKERS: dict[str, Callable[[Session], Any]] = {
    "SessionDiagnostics": of_session,
    _SECURITY: of_security,
    "SubscriptionDiagnosticsArray": lambda session: array_of(
        map(of_subscription, session.subscription_service.subscriptions.values())
    ),
}


class SessionObject(Instance):
    """The object of one session, for one access: its values are those of this moment."""

    __slots__ = ("_session",)

    def __init__(self, instances: Instances, session: Session, template: Template) -> None:
        identifier = str(session.session_id.Identifier)
        title = shown(session.asked.SessionName) or identifier
        super().__init__(instances, identifier, title, template, FOLDER)
        self.browse_name = ua.QualifiedName(title, instances.namespace)
        self._session = session

    def _begin(self, template: Template) -> None:
        self.template = template  # there is nothing to be kept

    def data_value(self, node: TemplateNode) -> ua.DataValue:
        """The present value of a variable; what is about security only over an encrypted channel (6.3.4)."""
        whole, _, field = node.path.partition(".")
        reading = READING.get()
        if whole == _SECURITY and reading is not None and not reading.reader.is_encrypted:
            return ua.DataValue(StatusCode=_INSECURE)
        session = self._session
        made = made_once((session.session_id, whole), lambda: _MAKERS[whole](session))
        value = getattr(made, _RENAMED.get(field, field)) if field else made
        assert node.value_type is not None  # noqa: S101 (mypy: a variable has one)
        return good(node.value_type.variant(value))


class SessionsFolder(NodeData):
    """SessionsDiagnosticsSummary, with a reference to the object of each session."""

    def __init__(self, plain: NodeData, of_sessions: Callable[[], Iterable[ua.ReferenceDescription]]) -> None:
        self._fixed: list[ua.ReferenceDescription] = []
        self._of_sessions = of_sessions
        super().__init__(plain.nodeid)
        self.attributes = plain.attributes
        self.references = plain.references

    @property
    def references(self) -> list[ua.ReferenceDescription]:
        """Those of the type table, and those to the sessions that the reader may see."""
        return [*self._fixed, *self._of_sessions()]

    @references.setter
    def references(self, fixed: list[ua.ReferenceDescription]) -> None:
        self._fixed = fixed


class SessionObjects:
    """The objects of all sessions that a user is in."""

    def __init__(
        self, instances: Instances, template: Template, sessions: Callable[[], list[Session]]
    ) -> None:
        self._instances = instances
        self._template = template
        self._sessions = sessions

    def serve(self) -> None:
        """Put the objects into the address space."""
        space = self._instances.space
        space.put(SessionsFolder(space.node(FOLDER), self._references))
        self._instances.elsewhere = self.find

    def find(self, part: str) -> SessionObject | None:
        """The object whose NodeId begins like this, if the reader may see it."""
        by_part = made_once(
            _BY_PART, lambda: {str(one.session_id.Identifier): one for one in self._sessions()}
        )
        session = by_part.get(part)
        if session is None or not self._is_seen(session):
            return None
        return SessionObject(self._instances, session, self._template)

    @staticmethod
    def _is_seen(session: Session) -> bool:
        reading = READING.get()
        return reading is None or reading.reader.sees(session.session_id, session.user.name)

    def _references(self) -> Iterable[ua.ReferenceDescription]:
        root = self._template.root
        for session in filter(self._is_seen, self._sessions()):
            made = SessionObject(self._instances, session, self._template)
            yield ua.ReferenceDescription(
                ua.NodeId(ua.ObjectIds.HasComponent),
                True,
                made.node_id(),
                made.browse_name,
                made.display_name,
                root.node_class,
                root.type_definition,
            )
