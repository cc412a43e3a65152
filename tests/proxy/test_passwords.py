from __future__ import annotations

import asyncio
import base64
import threading

import bcrypt
import pytest
from passlib.hash import apr_md5_crypt, des_crypt, ldap_salted_sha1, ldap_sha1, md5_crypt, sha256_crypt, sha512_crypt

from eventually import eventually
from portway_proxy.passwords import Hashing, Verifier
from portway_proxy.snapshot import Credentials

SECRET = "open sesame"


def basic(user: str, password: str) -> bytes:
    return b"Basic " + base64.b64encode(f"{user}:{password}".encode())


def verifier(*users: tuple[str, str]) -> Verifier:
    return Verifier(Credentials("shop/users", users))


def hashed(password: str = SECRET) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


FORMS = {
    "bcrypt 2b": hashed(),
    "bcrypt 2y": hashed().replace("$2b$", "$2y$"),
    "bcrypt 2a": hashed().replace("$2b$", "$2a$"),
    "apr1": apr_md5_crypt.hash(SECRET),
    "md5": md5_crypt.hash(SECRET),
    "sha256": sha256_crypt.using(rounds=1000).hash(SECRET),
    "sha512": sha512_crypt.using(rounds=5000).hash(SECRET),
    "des": des_crypt.hash(SECRET),
    "sha1": ldap_sha1.hash(SECRET),
    "salted sha1": ldap_salted_sha1.hash(SECRET),
    "plain": "{PLAIN}" + SECRET,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_that_htpasswd_writes_is_verified(form: str) -> None:
    some = verifier(("ada", form))
    assert some.verify(basic("ada", SECRET))
    assert not some.verify(basic("ada", "close sesame"))


def test_what_apache_s_own_documentation_shows_is_verified() -> None:
    # https://httpd.apache.org/docs/2.4/misc/password_encryptions.html
    shown = {
        "bcrypt": "$2y$05$c4WoMPo3SXsafkva.HHa6uXQZWr7oboPiC2bT/r7q1BB8I2s0BRqC",
        "md5": "$apr1$r31.....$HqJZimcKQFAMYayBlzkrA/",
        "sha1": "{SHA}VBPuJHI7uixaa6LQGWx4s+5GKNE=",
        "crypt": "rqXexS6ZhobKA",
    }
    for form in shown.values():
        assert verifier(("me", form)).verify(basic("me", "myPassword"))


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"Basic",
        b"Basic !!!",
        b"Bearer " + base64.b64encode(b"ada:open sesame"),
        b"Basic " + base64.b64encode(b"ada"),
        b"Basic " + base64.b64encode(b":open sesame"),
        b"Basic " + base64.b64encode(b"bob:open sesame"),
        b"Basic " + base64.b64encode(b"ada:open sesame\0"),
        b"Basic " + base64.b64encode(b"\xff\xfe:open sesame"),
        b"Basic " + base64.b64encode(b"ada:" + b"\xff" * 5000),
    ],
)
def test_what_names_no_user_and_password_passes_nobody(value: bytes) -> None:
    assert not verifier(("ada", hashed())).verify(value)


@pytest.mark.parametrize(
    "form", ["", "open sesame", "$2y$", "$1$", "$9$what", "{MD5}x", "*", "!", "$2y$99$" + "a" * 53]
)
def test_what_is_no_hash_passes_nobody(form: str) -> None:
    assert not verifier(("ada", form)).verify(basic("ada", SECRET))
    assert not verifier(("ada", form)).verify(basic("ada", form))


def test_the_scheme_may_be_spelt_in_any_case() -> None:
    assert verifier(("ada", hashed())).verify(basic("ada", SECRET).replace(b"Basic", b"bAsIc"))


def test_a_password_may_hold_colons_and_characters_of_any_language() -> None:
    assert verifier(("ada", hashed("a:b:ключ"))).verify(basic("ada", "a:b:ключ"))


def test_a_password_longer_than_bcrypt_counts_is_cut_off_as_apache_does() -> None:
    assert verifier(("ada", hashed("x" * 72))).verify(basic("ada", "x" * 100))


def test_what_is_remembered_is_neither_the_password_nor_a_digest_that_others_could_make() -> None:
    one, other = verifier(("ada", hashed())), verifier(("ada", hashed()))
    value = basic("ada", SECRET)
    assert one.digest(value) == one.digest(value)
    assert one.digest(value) != other.digest(value)
    assert value not in one.digest(value)


def test_a_flood_of_bad_passwords_pushes_out_no_good_one() -> None:
    some = verifier(("ada", hashed()))
    some.note(b"good", passes=True)
    for number in range(5000):
        some.note(b"%d" % number, passes=False)
    assert some.recall(b"good") is True
    assert len(some._bad) <= 1024


def test_no_text_shows_a_hash() -> None:
    credentials = Credentials("shop/users", (("ada", "$2y$hash"),))
    assert "hash" not in f"{credentials!r} {credentials}"


async def test_the_same_pair_is_hashed_once_however_many_wait_for_it() -> None:
    some, hashing = Held(), Hashing(asyncio.get_running_loop())
    verdicts: list[bool] = []
    for _ in range(100):
        assert hashing.ask(some, b"pair", b"digest", verdicts.append)
    some.let.set()
    await eventually(lambda: len(verdicts) == 100, what="all have the verdict")
    assert (verdicts, some.verified, some.recall(b"digest")) == ([True] * 100, 1, True)


async def test_no_more_pairs_of_a_secret_wait_than_may() -> None:
    some, hashing = Held(), Hashing(asyncio.get_running_loop())
    verdicts: list[bool] = []
    taken = [hashing.ask(some, b"pair", b"%d" % number, verdicts.append) for number in range(100)]
    assert taken == [True] * 32 + [False] * 68
    assert hashing.ask(Held(), b"pair", b"another Secret's", verdicts.append)
    some.let.set()
    await eventually(lambda: len(verdicts) == 32, what="all have the verdict")
    assert hashing.ask(some, b"pair", b"new", verdicts.append)


class Held(Verifier):
    """Counts what it is asked, and holds it until told."""

    __slots__ = ("let", "verified")

    def __init__(self) -> None:
        super().__init__(Credentials("shop/users", ()))
        self.let = threading.Event()
        self.verified = 0

    def verify(self, value: bytes) -> bool:  # noqa: ARG002 - as the class has it
        self.let.wait(10)
        self.verified += 1
        return True
