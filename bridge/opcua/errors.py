"""What can go wrong in this package; each message says what happened, where, and what to do next.

OpcUaError
  AddressUnavailable   the server cannot listen there
  CertificateError     the application certificate or its key cannot be used
  UsersError           the users file cannot be used
  TrustError           the trust list cannot be used
  TemplateError        a template asks for what its type does not declare
  InstanceError        an instance, a path or a value that does not fit
"""


class OpcUaError(Exception):
    """Base of all errors of this package."""


class AddressUnavailable(OpcUaError):
    """The server cannot listen at the address it was given."""


class CertificateError(OpcUaError):
    """The application certificate or its private key cannot be used."""


class UsersError(OpcUaError):
    """The users file cannot be used, or a user cannot be added or removed."""


class TrustError(OpcUaError):
    """The trust list cannot be used, or a certificate cannot be accepted or removed."""


class TemplateError(OpcUaError):
    """A template asks for something that its type does not declare."""


class InstanceError(OpcUaError):
    """An instance that exists already or not at all, a path its template lacks, or a value of the wrong type."""
