"""Envelope encryption: what is sealed opens for its owner alone, under any key we still have."""

from __future__ import annotations

import itertools
import secrets
import struct
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from api.identity.envelope import (
    EXCHANGE_KEYS,
    TOTP,
    Binding,
    InvalidSecret,
    SecretUnreadable,
    Vault,
    exchange_binding,
    head_of,
    totp_binding,
)
from api.identity.settings import Key, KeyRing

ANN, BOB = UUID(int=10), UUID(int=11)
KEY, OTHER_KEY = UUID(int=20), UUID(int=21)
OLD, NEW = b"o" * 32, b"n" * 32
FIELDS = ("api_key", "api_secret", "passphrase")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


def vault(
    prefix: str = EXCHANGE_KEYS, current: bytes = OLD, previous: bytes | None = None
) -> Vault:
    """A vault of one or two keys."""
    return Vault(prefix, KeyRing(Key(current), None if previous is None else Key(previous)))


def first_version(
    text: bytes, aad: str, kek: bytes = OLD, data_key: bytes = b"d" * 32, aad_of_data: str = ""
) -> bytes:
    """A blob of version 1, written down here a second time."""
    key_nonce, data_nonce = b"1" * 12, b"2" * 12
    wrapped = AESGCM(kek).encrypt(key_nonce, data_key, aad.encode())
    head = struct.pack(">BBBH", 1, 12, 12, len(wrapped))
    usable = data_key if len(data_key) in (16, 24, 32) else b"d" * 32
    data = AESGCM(usable).encrypt(data_nonce, text, (aad_of_data or aad).encode())
    return head + key_nonce + wrapped + data_nonce + data


@given(text=TEXTS, size=st.sampled_from([16, 24, 32]), name=st.sampled_from(FIELDS))
def test_what_is_sealed_opens_again(text: str, size: int, name: str) -> None:
    found = vault(current=secrets.token_bytes(size))
    binding = exchange_binding(ANN, KEY, name)  # type: ignore[arg-type]
    blob = found.seal(text, binding)
    assert found.open(blob, binding) == text.strip()
    assert len(blob) == 6 + 12 + 48 + 12 + len(text.strip().encode()) + 16


@given(text=TEXTS)
def test_a_new_key_takes_over_without_the_data(text: str) -> None:
    binding = exchange_binding(ANN, KEY, "api_secret")
    blob = vault().seal(text, binding)
    both = vault(current=NEW, previous=OLD)
    moved = both.rewrap(blob, binding)
    assert moved.startswith(head_of(Key(NEW)))
    assert moved[66:] == blob[66:]
    assert moved[18:66] != blob[18:66]
    assert both.rewrap(moved, binding) == moved
    assert vault(current=NEW).open(moved, binding) == text.strip()
    with pytest.raises(SecretUnreadable, match="unknown_key"):
        vault().open(moved, binding)


@given(text=TEXTS, at=st.integers(min_value=0), change=st.integers(1, 255))
def test_any_changed_byte_is_noticed(text: str, at: int, change: int) -> None:
    binding = totp_binding(ANN)
    blob = bytearray(vault(TOTP).seal(text, binding))
    blob[at % len(blob)] ^= change
    with pytest.raises(SecretUnreadable):
        vault(TOTP).open(bytes(blob), binding)


@given(blob=st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_typed_error(blob: bytes) -> None:
    for start in (b"", b"\x01\x0c\x0c\x00\x30", head_of(Key(OLD))):
        with pytest.raises(SecretUnreadable):
            vault().open(start + blob, exchange_binding(ANN, KEY, "api_key"))


def test_two_blobs_of_one_text_share_nothing() -> None:
    binding = totp_binding(ANN)
    one, two = (vault(TOTP).seal("the same text", binding) for _ in range(2))
    pieces = [{blob[i : i + 8] for i in range(6, len(blob) - 8)} for blob in (one, two)]
    assert not pieces[0] & pieces[1]


def test_a_blob_cannot_be_moved() -> None:
    home = exchange_binding(ANN, KEY, "api_key")
    blob = vault().seal("value", home)
    for foreign in (
        exchange_binding(BOB, KEY, "api_key"),
        exchange_binding(ANN, OTHER_KEY, "api_key"),
        exchange_binding(ANN, KEY, "api_secret"),
        exchange_binding(ANN, KEY, "passphrase"),
    ):
        with pytest.raises(SecretUnreadable, match="authentication"):
            vault().open(blob, foreign)
    secret = vault(TOTP).seal("value", totp_binding(ANN))
    with pytest.raises(SecretUnreadable, match="authentication"):
        vault(TOTP).open(secret, totp_binding(BOB))


def test_data_and_their_key_cannot_be_mixed_with_others() -> None:
    binding = exchange_binding(ANN, KEY, "api_key")
    one, two = vault().seal("first", binding), vault().seal("other", binding)
    split = len(one) - (12 + 5 + 16)
    with pytest.raises(SecretUnreadable, match="authentication"):
        vault().open(one[:split] + two[split:], binding)


def test_the_bindings_are_those_of_the_contract() -> None:
    assert totp_binding(ANN) == Binding(
        f"roehub.identity.2fa.totp.v2|{ANN}", "roehub.identity.2fa.totp.v1"
    )
    assert exchange_binding(ANN, KEY, "passphrase").aad == (
        f"roehub.identity.exchange_keys.v2|{ANN}|{KEY}|passphrase"
    )


@pytest.mark.parametrize("operation", ["seal", "open", "rewrap"])
def test_a_binding_of_another_kind_is_refused(operation: str) -> None:
    foreign = totp_binding(ANN)
    argument = (
        "text" if operation == "seal" else vault().seal("x", exchange_binding(ANN, KEY, "api_key"))
    )
    with pytest.raises(InvalidSecret, match=r"begin with roehub\.identity\.exchange_keys\.v2"):
        getattr(vault(), operation)(argument, foreign)


@pytest.mark.parametrize("text", ["", " \t\n"])
def test_nothing_is_not_sealed(text: str) -> None:
    with pytest.raises(InvalidSecret, match="empty"):
        vault(TOTP).seal(text, totp_binding(ANN))


def test_a_blob_of_version_1_opens_and_is_rewrapped() -> None:
    binding = totp_binding(ANN)
    blob = first_version(b"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", binding.first)
    assert len(blob) == 93 + 32
    both = vault(TOTP, current=NEW, previous=OLD)
    assert both.open(blob, binding) == "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    moved = both.rewrap(blob, binding)
    assert moved[66:] == blob[65:]  # the data as they were
    assert vault(TOTP, NEW).open(moved, binding) == "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
    with pytest.raises(SecretUnreadable, match="authentication"):
        both.open(moved, totp_binding(BOB))  # which version 1 did not know
    again = vault(TOTP, OLD, NEW).rewrap(moved, binding)
    assert vault(TOTP, OLD).open(again, binding).startswith("JBSWY3DP")


FIRST_AAD = totp_binding(ANN).first
GOOD_1 = first_version(b"secret", FIRST_AAD)
GOOD_2 = head_of(Key(OLD)) + bytes(12 + 48 + 12 + 17)


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "truncated"),
        (b"\x00" + GOOD_1[1:], "version"),
        (b"\x03" + GOOD_1[1:], "version"),
        (GOOD_1[:4], "truncated"),
        (GOOD_1[:1] + b"\x0b" + GOOD_1[2:], "nonce_length"),
        (GOOD_1[:2] + b"\x10" + GOOD_1[3:], "nonce_length"),
        (GOOD_1[:3] + b"\x00\x10" + GOOD_1[5:], "data_key_length"),
        (GOOD_1[:3] + b"\x00\x00" + GOOD_1[5:], "data_key_length"),
        (GOOD_1[:70], "truncated"),
        (GOOD_1[: 77 + 16], "data_length"),
        (GOOD_1[:-1] + bytes([GOOD_1[-1] ^ 1]), "authentication"),
        (GOOD_1[:20] + bytes([GOOD_1[20] ^ 1]) + GOOD_1[21:], "authentication"),
        (first_version(b"x", FIRST_AAD, kek=b"?" * 32), "authentication"),
        (first_version(b"x", FIRST_AAD, data_key=b"d" * 20), "authentication"),
        (first_version(b"x", FIRST_AAD, aad_of_data="another"), "authentication"),
        (first_version(b"\xff\xfe", FIRST_AAD), "text"),
        (first_version(b"  ", FIRST_AAD), "empty"),
        (b"\x02\x02", "truncated"),
        (b"\x02\x03" + GOOD_2[2:], "version"),
        (GOOD_2[:60], "truncated"),
        (b"\x02\x02none" + GOOD_2[6:], "unknown_key"),
        (GOOD_2[:-1], "data_length"),
        (GOOD_2, "authentication"),
    ],
    ids=itertools.count(),
)
def test_each_fault_of_a_blob_has_its_reason(blob: bytes, reason: str) -> None:
    with pytest.raises(SecretUnreadable) as caught:
        vault(TOTP).open(blob, totp_binding(ANN))
    assert caught.value.reason == reason
    assert caught.value.details == {"error": "secret_unreadable", "reason": reason}


def test_a_vault_does_not_show_its_keys() -> None:
    assert "ooo" not in repr(vault())
