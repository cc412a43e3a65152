from __future__ import annotations

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from passlib.hash import apr_md5_crypt, des_crypt, ldap_salted_sha1, ldap_sha1, md5_crypt, sha256_crypt, sha512_crypt

from portway_operator.htpasswd import SecretForm, read_users
from portway_operator.objects import Meta, Secret

BCRYPT = bcrypt.hashpw(b"open sesame", bcrypt.gensalt(4)).decode()


def secret(**data: bytes) -> Secret:
    return Secret(Meta("shop", "users"), "Opaque", data)


def lines(text: str) -> Secret:
    return secret(auth=text.encode())


@pytest.mark.parametrize(
    "hashed",
    [
        BCRYPT,
        BCRYPT.replace("$2b$", "$2y$"),
        apr_md5_crypt.hash("x"),
        md5_crypt.hash("x"),
        sha256_crypt.using(rounds=1000).hash("x"),
        sha256_crypt.using(rounds=5000).hash("x"),
        sha512_crypt.using(rounds=5000).hash("x"),
        sha512_crypt.using(rounds=1_000_000).hash("x"),
        des_crypt.hash("x"),
        ldap_sha1.hash("x"),
        ldap_salted_sha1.hash("x"),
        "{PLAIN}open sesame",
    ],
)
def test_every_form_of_htpasswd_names_a_user(hashed: str) -> None:
    found = read_users(lines(f"ada:{hashed}\n"), SecretForm.FILE)
    assert (found.users, found.faults) == ((("ada", hashed),), ())


@pytest.mark.parametrize(
    "hashed",
    [
        "",
        "open sesame",
        "$2y$14$" + "a" * 53,
        "$2y$31$" + "a" * 53,
        "$6$rounds=999999999$salt$" + "a" * 86,
        "$5$rounds=1000001$salt$" + "a" * 43,
        "{MD5}abc",
        "$argon2id$v=19$m=65536,t=2,p=1$c2FsdA$aGFzaA",
    ],
)
def test_what_is_no_hash_or_costs_too_much_is_a_fault_with_its_line(hashed: str) -> None:
    found = read_users(lines(f"# users\nada:{hashed}\nbob:{BCRYPT}\n"), SecretForm.FILE)
    assert (found.users, found.faults) == ((("bob", BCRYPT),), ("data[auth] line 2",))


def test_comments_blank_lines_and_line_ends_of_windows_do_not_matter() -> None:
    found = read_users(lines(f"\n# who may come\r\nada:{BCRYPT}:a comment\r\n  \n"), SecretForm.FILE)
    assert (found.users, found.faults) == ((("ada", BCRYPT),), ())


def test_the_first_line_of_a_user_counts() -> None:
    other = ldap_sha1.hash("x")
    assert read_users(lines(f"ada:{BCRYPT}\nada:{other}"), SecretForm.FILE).users == (("ada", BCRYPT),)


def test_a_map_has_a_key_for_each_user() -> None:
    found = read_users(secret(bob=BCRYPT.encode() + b"\n", ada=BCRYPT.encode(), eve=b"plain"), SecretForm.MAP)
    assert (found.users, found.faults) == ((("ada", BCRYPT), ("bob", BCRYPT)), ("data[eve]",))


def test_without_the_key_there_is_nobody() -> None:
    assert read_users(secret(users=BCRYPT.encode()), SecretForm.FILE).users == ()


@given(st.binary(max_size=200))
def test_whatever_a_tenant_writes_is_read_and_never_quoted(data: bytes) -> None:
    found = read_users(secret(auth=data), SecretForm.FILE)
    assert "users=" not in repr(found)
    assert all(place.startswith("data[auth] line ") for place in found.faults)
