"""Secure channels that keep the rules asyncua leaves to its peers (Part 6, 6.7 and 7.1; Part 4, 5.6).

In: messages of clients. Out: asyncua's answers; or an Error message and the end of the connection, for a message that
is out of order, repeated, not what it says, or of several chunks from a stranger, for a certificate that is refused,
and for a channel that nobody renews.
"""

import asyncio
import hmac
from typing import Any

import structlog
from asyncua import ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.crypto import uacrypto
from asyncua.crypto.security_policies import (
    SecurityPolicyAes128Sha256RsaOaep,
    SecurityPolicyAes256Sha256RsaPss,
    SecurityPolicyNone,
)
from asyncua.server.internal_server import InternalServer
from asyncua.server.uaprocessor import UaProcessor
from asyncua.ua.ua_binary import struct_from_binary, uatcp_to_binary

from .trust import TrustList
from .validation import CertificateRefused

log = structlog.get_logger(__name__)

Codes = ua.StatusCodes
SHORTEST_LIFETIME, LONGEST_LIFETIME = 10_000, 3_600_000
"""Of a channel's security token, in ms; clients renew it after three quarters (Part 4, 5.6.2)."""
SMALLEST_BUFFER = 8192
"""Bytes that a peer must be able to take in one chunk (Part 6, 7.1.2.3)."""
GRACE = 1.25
"""A token may be used for a quarter of its lifetime longer (Part 4, 5.6.2)."""
_DECRYPT = {
    SecurityPolicyAes128Sha256RsaOaep.AsymmetricEncryptionURI: uacrypto.decrypt_rsa_oaep,
    SecurityPolicyAes256Sha256RsaPss.AsymmetricEncryptionURI: uacrypto.decrypt_rsa_oaep_sha256,
}
"""Not RSA with PKCS #1 v1.5: whoever sees which messages have the wrong padding can decrypt others."""


class StrictProcessor(UaProcessor):
    """One connection's messages, in the order that the standard wants."""

    def __init__(
        self, iserver: InternalServer, transport: Any, limits: TransportLimits, trust: TrustList | None
    ) -> None:
        super().__init__(iserver, transport, limits)
        self._trust = trust
        self._greeted = False
        self._end: asyncio.TimerHandle | None = None  # of the channel, unless it is renewed

    @property
    def agreed(self) -> TransportLimits:
        """The limits of messages, after Hello those that both sides keep (Part 6, 7.1.2.4)."""
        return self._limits

    @property
    def policy(self) -> Any:
        """The security policy of the channel."""
        return self._connection.security_policy

    @property
    def secured(self) -> bool:
        """Whether messages are signed."""
        return bool(self.policy.URI != SecurityPolicyNone.URI)

    @property
    def has_session(self) -> bool:
        """Whether a user has come in."""
        return self.session is not None and self.session.is_activated()

    async def process(self, header: Any, body: Any) -> bool:
        """As asyncua's; what breaks the rules ends the connection."""
        try:
            self._check_order(header)
            going_on = bool(await super().process(header, body))
            self._check_buffers()
            return going_on
        except CertificateRefused as refused:
            self.refuse(refused.told)
        except (ServiceError, ua.UaStatusCodeError) as error:
            self.refuse(error.code)
        except Exception as error:  # noqa: BLE001 (asyncua decodes what strangers send)
            # A wrong signature, sequence number, token, channel or encoding: all are refused alike, so that none
            # tells a stranger anything.
            log.debug("an OPC UA message is refused", address=self._address, reason=repr(error))
            self.refuse(Codes.BadSecurityChecksFailed)
        return False

    def refuse(self, status: int) -> None:
        """Tell the client why, and end the connection (Part 6, 7.1.5)."""
        if not self._transport.is_closing():
            error = ua.ErrorMessage(ua.StatusCode(status), "")
            self._transport.write(uatcp_to_binary(ua.MessageType.Error, error))
            self._transport.close()

    async def recheck(self) -> None:
        """End the connection and its session when its certificate may not be used any more."""
        try:
            self._check_certificate()
        except CertificateRefused as refused:
            self.refuse(refused.told)
            if self.session is not None:
                await self.session.close_session(True)

    async def close(self) -> None:
        """As asyncua's."""
        if self._end is not None:
            self._end.cancel()
        await super().close()

    @property
    def _address(self) -> str:
        return str(self.name[0]) if self.name else "unknown"

    def _check_order(self, header: Any) -> None:
        kinds = ua.MessageType
        kind = header.MessageType
        if (kind == kinds.Hello) == self._greeted:
            raise ServiceError(Codes.BadTcpMessageTypeInvalid)
        self._greeted = True
        if kind in (kinds.SecureMessage, kinds.SecureClose) and not self._connection.is_open():
            raise ServiceError(Codes.BadTcpSecureChannelUnknown)
        if kind != kinds.SecureMessage and header.ChunkType != ua.ChunkType.Single:
            raise ServiceError(Codes.BadTcpMessageTypeInvalid)
        if header.ChunkType == ua.ChunkType.Intermediate and not self.has_session:
            raise ServiceError(Codes.BadTcpMessageTooLarge)  # strangers get no more than a chunk's memory

    def _check_buffers(self) -> None:
        if min(self.agreed.max_recv_buffer, self.agreed.max_send_buffer) < SMALLEST_BUFFER:
            raise ServiceError(Codes.BadConnectionRejected)

    def open_secure_channel(self, algohdr: Any, seqhdr: Any, body: Any) -> None:
        """Open or renew the channel (Part 4, 5.6.2); asyncua would take any certificate and lifetime."""
        request = struct_from_binary(ua.OpenSecureChannelRequest, body)
        parameters, connection = request.Parameters, self._connection
        if connection.is_open() != (parameters.RequestType == ua.SecurityTokenRequestType.Renew):
            raise ServiceError(Codes.BadRequestTypeInvalid)
        if not connection.is_open():
            connection.select_policy(
                algohdr.SecurityPolicyURI, algohdr.SenderCertificate, parameters.SecurityMode
            )
        elif self._differs(algohdr, parameters):
            raise ServiceError(Codes.BadSecurityChecksFailed)
        self._check_certificate()
        if len(parameters.ClientNonce or b"") < self.policy.secure_channel_nonce_length:
            raise ServiceError(Codes.BadNonceInvalid)
        lifetime = min(max(parameters.RequestedLifetime, SHORTEST_LIFETIME), LONGEST_LIFETIME)
        parameters.RequestedLifetime = lifetime
        response = ua.OpenSecureChannelResponse()
        response.Parameters = connection.open(parameters, self.iserver)
        self.send_response(request.RequestHeader.RequestHandle, seqhdr, response, ua.MessageType.SecureOpen)
        if self._end is not None:
            self._end.cancel()
        self._end = asyncio.get_running_loop().call_later(
            lifetime * GRACE / 1000, self.refuse, Codes.BadSecureChannelTokenUnknown
        )

    def _differs(self, algohdr: Any, parameters: Any) -> bool:
        policy = self.policy
        return bool(
            algohdr.SecurityPolicyURI != policy.URI
            or parameters.SecurityMode != policy.Mode
            or (algohdr.SenderCertificate or b"") != (policy.peer_certificate or b"")
        )

    def _check_certificate(self) -> None:
        if self._trust is not None and self.secured:
            self._trust.check(self.policy.peer_certificate or b"", self._address)


def password_of(token: ua.UserNameIdentityToken, key: Any, nonce: bytes) -> str:
    """The password of a token: plain, or encrypted with the session's last nonce (Part 4, 7.40.2.2).

    ValueError when it is encrypted otherwise, for another session, or not text.
    """
    algorithm, content = token.EncryptionAlgorithm, token.Password
    if not algorithm:
        return content.decode() if isinstance(content, bytes) else str(content or "")
    decrypt = _DECRYPT.get(algorithm)
    if decrypt is None:
        raise ValueError(f"passwords are not taken with {algorithm}")
    plain = decrypt(key, content)
    length = int.from_bytes(plain[:4], "little")
    secret = plain[4 : 4 + length]
    if len(secret) != length or length < len(nonce):
        raise ValueError("the password is cut off")
    password, last = secret[: length - len(nonce)], secret[length - len(nonce) :]
    if not hmac.compare_digest(last, nonce):
        raise ValueError("the password was encrypted for another session")
    return bytes(password).decode()
