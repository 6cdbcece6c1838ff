"""Secrets at rest: AES-GCM twice, the data under a key of their own and that key under ours.

A blob of version 2 (offsets in bytes, n the length of the text):

    0     1     version, 2
    1     1     version of the data: 2, or 1 where the blob began as version 1
    2     4     id of the key-encryption key
    6     12    nonce of the data key
    18    48    data key of 32 bytes under the key-encryption key, with its tag
    66    12    nonce of the data
    78    n+16  the text under the data key, with its tag

The data key is bound to everything before its nonce and to what the secret belongs to, the data
to what the secret belongs to. So a blob can be moved nowhere, and another key-encryption key can
take over the data key without the data being decrypted.

Version 1 is `1 | 12 | 12 | 48 (2 bytes) | nonce | data key | nonce | data`: no key id, and the
binding of its time on both.
"""

from __future__ import annotations

import secrets
import struct
from dataclasses import dataclass
from typing import Final, Literal
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from api.errors import ServiceError
from api.identity.settings import Key, KeyRing
from compute.errors import InvalidInput

FIRST: Final = 1
VERSION: Final = 2
NONCE: Final = 12
TAG: Final = 16
DATA_KEY: Final = 32
KEY_ID: Final = 4
TOTP: Final = "roehub.identity.2fa.totp."
EXCHANGE_KEYS: Final = "roehub.identity.exchange_keys.v2|"
_HEAD_1: Final = struct.Struct(">BBBH")

Reason = Literal[
    "version", "nonce_length", "data_key_length", "data_length", "truncated",
    "unknown_key", "authentication", "text", "empty",
]  # fmt: skip


class SecretUnreadable(ServiceError):
    """A stored secret that cannot be decrypted; `reason` says why, nothing says what is in it."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(
            f"a stored secret cannot be read ({reason})",
            details={"error": "secret_unreadable", "reason": reason},
        )
        self.reason = reason


class InvalidSecret(InvalidInput):
    """A text that cannot be sealed, or a binding of another kind of secret."""


@dataclass(frozen=True, slots=True)
class Binding:
    """What a secret belongs to: `aad` since version 2, `first` in version 1."""

    aad: str
    first: str


def totp_binding(user_id: UUID) -> Binding:
    """The binding of a user's TOTP secret; version 1 had one for all users."""
    return Binding(f"{TOTP}v2|{user_id}", f"{TOTP}v1")


def exchange_binding(
    user_id: UUID, key_id: UUID, name: Literal["api_key", "api_secret", "passphrase"]
) -> Binding:
    """The binding of one field of an exchange key."""
    aad = f"{EXCHANGE_KEYS}{user_id}|{key_id}|{name}"
    return Binding(aad, aad)


PEPPER: Final = Binding(f"{EXCHANGE_KEYS}pepper", f"{EXCHANGE_KEYS}pepper")
"""The binding of the key of the hashes of exchange keys."""


@dataclass(frozen=True, slots=True)
class _Blob:
    """A blob in its parts; `head` is what stands before the nonces, empty in version 1."""

    head: bytes
    wrapped: bytes  # nonce and data key
    data: bytes  # nonce and text

    @property
    def of_first(self) -> bool:
        """Whether the data have the binding of version 1."""
        return self.head[1:2] != bytes((VERSION,))

    @property
    def key_id(self) -> str:
        """Id of the key-encryption key; empty in version 1."""
        return self.head[2:].hex()


@dataclass(frozen=True, slots=True)
class Vault:
    """Seals and opens secrets of one kind: those whose binding begins with `prefix`."""

    prefix: str
    keys: KeyRing

    def seal(self, text: str, binding: Binding) -> bytes:
        """A blob of `text` without outer white space. Raises: InvalidSecret."""
        self._check(binding)
        plain = text.strip().encode()
        if not plain:
            raise InvalidSecret("a secret must not be empty")
        data_key = secrets.token_bytes(DATA_KEY)
        return self._wrapped(VERSION, data_key, binding) + _encrypted(
            data_key, plain, binding.aad.encode()
        )

    def open(self, blob: bytes, binding: Binding) -> str:
        """The text of a blob. Raises: SecretUnreadable, InvalidSecret (a foreign binding)."""
        self._check(binding)
        found = _parsed(blob)
        data_aad = binding.first if found.of_first else binding.aad
        plain = _decrypted(self._data_key(found, binding), found.data, data_aad.encode())
        try:
            text = plain.decode().strip()
        except UnicodeDecodeError:
            raise SecretUnreadable("text") from None
        if not text:
            raise SecretUnreadable("empty")
        return text

    def rewrap(self, blob: bytes, binding: Binding) -> bytes:
        """The same data, which stay encrypted, with their key under the newest of ours.

        A blob that is under it already is returned as it is.
        Raises: SecretUnreadable, InvalidSecret.
        """
        self._check(binding)
        found = _parsed(blob)
        if found.key_id == self.keys.current.key_id:
            return blob
        data_version = FIRST if found.of_first else VERSION
        return self._wrapped(data_version, self._data_key(found, binding), binding) + found.data

    def _wrapped(self, data_version: int, data_key: bytes, binding: Binding) -> bytes:
        """A head, and the data key under the current key-encryption key."""
        head = head_of(self.keys.current, data_version)
        return head + _encrypted(self.keys.current.value, data_key, head + binding.aad.encode())

    def _data_key(self, blob: _Blob, binding: Binding) -> bytes:
        if blob.head:
            key = self.keys.find(blob.key_id)
            if key is None:
                raise SecretUnreadable("unknown_key")
            return _decrypted(key.value, blob.wrapped, blob.head + binding.aad.encode())
        for key in self.keys:  # version 1 does not say which
            try:
                return _decrypted(key.value, blob.wrapped, binding.first.encode())
            except SecretUnreadable:
                continue
        raise SecretUnreadable("authentication")

    def _check(self, binding: Binding) -> None:
        if not (binding.aad.startswith(self.prefix) and binding.first.startswith(self.prefix)):
            raise InvalidSecret(f"the binding does not begin with {self.prefix}")


def head_of(key: Key, data_version: int = VERSION) -> bytes:
    """How a blob under a key begins."""
    return bytes((VERSION, data_version)) + bytes.fromhex(key.key_id)


def _parsed(blob: bytes) -> _Blob:
    if not blob:
        raise SecretUnreadable("truncated")
    if blob[0] == FIRST:
        return _parsed_first(blob)
    if blob[0] != VERSION:
        raise SecretUnreadable("version")
    if blob[1:2] not in (b"", b"\x01", b"\x02"):
        raise SecretUnreadable("version")
    start, end = 2 + KEY_ID, 2 + KEY_ID + NONCE + DATA_KEY + TAG
    if len(blob) < end + NONCE:
        raise SecretUnreadable("truncated")
    return _Blob(blob[:start], blob[start:end], _data(blob[end:]))


def _parsed_first(blob: bytes) -> _Blob:
    if len(blob) < _HEAD_1.size:
        raise SecretUnreadable("truncated")
    _, key_nonce, data_nonce, length = _HEAD_1.unpack_from(blob)
    if (key_nonce, data_nonce) != (NONCE, NONCE):
        raise SecretUnreadable("nonce_length")
    if length <= TAG:
        raise SecretUnreadable("data_key_length")
    rest = blob[_HEAD_1.size :]
    split = NONCE + length
    if len(rest) < split + NONCE:
        raise SecretUnreadable("truncated")
    return _Blob(b"", rest[:split], _data(rest[split:]))


def _data(part: bytes) -> bytes:
    if len(part) - NONCE <= TAG:
        raise SecretUnreadable("data_length")
    return part


def _encrypted(key: bytes, plain: bytes, aad: bytes) -> bytes:
    """A fresh nonce and what it encrypted."""
    nonce = secrets.token_bytes(NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, aad)


def _decrypted(key: bytes, part: bytes, aad: bytes) -> bytes:
    try:
        return AESGCM(key).decrypt(part[:NONCE], part[NONCE:], aad)
    except (InvalidTag, ValueError):  # ValueError: a data key of another length than AES has
        raise SecretUnreadable("authentication") from None
