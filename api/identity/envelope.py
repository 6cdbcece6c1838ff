"""Secrets at rest: AES-GCM twice, the data under a key of their own and that key under ours.

A blob of version 2 (offsets in bytes, k the length of the key id, n that of the text):

    0           1     version, 2
    1           1     version of the data: 2, or 1 where the blob began as version 1
    2           1     k, 1 to 32
    3           k     id of the key-encryption key, ASCII
    3 + k       12    nonce of the data key
    15 + k      48    data key of 32 bytes under the key-encryption key, with its tag
    63 + k      12    nonce of the data
    75 + k      n+16  the text under the data key, with its tag

The data key is bound to everything before its nonce and to what the secret belongs to, the data
to what the secret belongs to. So a blob can be moved nowhere, and another key-encryption key can
take over the data key without the data being decrypted.

Version 1 is `1 | 12 | 12 | 48 (2 bytes) | nonce | data key | nonce | data`: no key id, and the
binding of its time on both.
"""

from __future__ import annotations

import re
import secrets
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from api.errors import ServiceError
from compute.errors import InvalidInput

FIRST: Final = 1
VERSION: Final = 2
NONCE: Final = 12
TAG: Final = 16
DATA_KEY: Final = 32
KEY_SIZES: Final = (16, 24, 32)
KEY_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}")
TOTP: Final = "roehub.identity.2fa.totp."
EXCHANGE_KEYS: Final = "roehub.identity.exchange_keys.v2|"
_WRAPPED: Final = DATA_KEY + TAG
_HEAD_1: Final = struct.Struct(">BBBH")

Reason = Literal[
    "version", "key_id", "nonce_length", "data_key_length", "data_length", "truncated",
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


class InvalidKeys(InvalidInput):
    """Key-encryption keys that cannot be used."""


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


@dataclass(frozen=True, slots=True)
class _Blob:
    """A blob in its parts; `key_id` is None in version 1."""

    data_version: int
    key_id: str | None
    wrapped: bytes  # nonce and data key
    data: bytes  # nonce and text

    @property
    def head(self) -> bytes:
        """What stands before the nonce of the data key and is bound with it, since version 2."""
        return b"" if self.key_id is None else _head(self.data_version, self.key_id)


@dataclass(frozen=True, slots=True)
class Vault:
    """Seals and opens secrets of one kind: those whose binding begins with `prefix`.

    `keys` are the key-encryption keys by id, each of 16, 24 or 32 bytes; `newest` seals.
    Raises: InvalidKeys.
    """

    prefix: str
    newest: str
    keys: Mapping[str, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        if self.newest not in self.keys:
            raise InvalidKeys(f"there is no key-encryption key {self.newest!r}")
        for key_id, key in self.keys.items():
            if not KEY_ID.fullmatch(key_id):
                raise InvalidKeys("the id of a key is 1 to 32 of the characters A-Z a-z 0-9 _ . -")
            if len(key) not in KEY_SIZES:
                raise InvalidKeys(f"key {key_id} has {len(key)} bytes; 16, 24 or 32 are needed")

    def seal(self, text: str, binding: Binding) -> bytes:
        """A blob of `text` without outer white space. Raises: InvalidSecret."""
        self._check(binding)
        plain = text.strip().encode()
        if not plain:
            raise InvalidSecret("a secret must not be empty")
        aad, data_key = binding.aad.encode(), secrets.token_bytes(DATA_KEY)
        head = _head(VERSION, self.newest)
        wrapped = _encrypted(self.keys[self.newest], data_key, head + aad)
        return head + wrapped + _encrypted(data_key, plain, aad)

    def open(self, blob: bytes, binding: Binding) -> str:
        """The text of a blob. Raises: SecretUnreadable, InvalidSecret (a foreign binding)."""
        self._check(binding)
        found = _parsed(blob)
        data_aad = binding.first if found.data_version == FIRST else binding.aad
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
        if found.key_id == self.newest:
            return blob
        head = _head(found.data_version, self.newest)
        aad = head + binding.aad.encode()
        return (
            head
            + _encrypted(self.keys[self.newest], self._data_key(found, binding), aad)
            + (found.data)
        )

    def _data_key(self, blob: _Blob, binding: Binding) -> bytes:
        if blob.key_id is not None:
            key = self.keys.get(blob.key_id)
            if key is None:
                raise SecretUnreadable("unknown_key")
            return _decrypted(key, blob.wrapped, blob.head + binding.aad.encode())
        for key in self.keys.values():  # version 1 does not say which
            try:
                return _decrypted(key, blob.wrapped, binding.first.encode())
            except SecretUnreadable:
                continue
        raise SecretUnreadable("authentication")

    def _check(self, binding: Binding) -> None:
        if not (binding.aad.startswith(self.prefix) and binding.first.startswith(self.prefix)):
            raise InvalidSecret(f"the binding does not begin with {self.prefix}")


def key_id_of(blob: bytes) -> str | None:
    """Id of the key that a blob is under; None in version 1. Raises: SecretUnreadable."""
    return _parsed(blob).key_id


def head_of(key_ids: Iterable[str]) -> list[bytes]:
    """How blobs under these keys begin: what a search for all others compares with."""
    return [_head(version, key_id) for key_id in key_ids for version in (FIRST, VERSION)]


def _head(data_version: int, key_id: str) -> bytes:
    name = key_id.encode("ascii")
    return bytes((VERSION, data_version, len(name))) + name


def _parsed(blob: bytes) -> _Blob:
    if not blob:
        raise SecretUnreadable("truncated")
    if blob[0] == FIRST:
        return _parsed_first(blob)
    if blob[0] != VERSION:
        raise SecretUnreadable("version")
    if len(blob) < 3:
        raise SecretUnreadable("truncated")
    data_version, length = blob[1], blob[2]
    if data_version not in (FIRST, VERSION):
        raise SecretUnreadable("version")
    name, rest = blob[3 : 3 + length], blob[3 + length :]
    if len(rest) < 2 * NONCE + _WRAPPED:
        raise SecretUnreadable("truncated")
    key_id = name.decode("ascii", "replace")
    if not KEY_ID.fullmatch(key_id):
        raise SecretUnreadable("key_id")
    split = NONCE + _WRAPPED
    return _Blob(data_version, key_id, rest[:split], _data(rest[split:]))


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
    return _Blob(FIRST, None, rest[:split], _data(rest[split:]))


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
