"""What OpenSSL can do and Python's ssl does not let it, called in the very library that ssl uses.

It rests on where CPython keeps a context's pointer, which is tried out once before anything is changed; where that
fails, `openssl` returns None and the features are off.
"""

from __future__ import annotations

import ctypes
import logging
import secrets
import ssl
import sys
from collections.abc import Callable
from functools import cache
from typing import Final

__all__ = ["TICKET_KEY", "OpenSsl", "openssl"]

_log = logging.getLogger(__name__)

TICKET_KEY: Final = 80
"""Bytes of a key for session tickets: its name, a key for HMAC and one for AES (SSL_CTX_set_tlsext_ticket_keys)."""

_GET_TICKET_KEYS: Final = 58  # SSL_CTRL_GET_TLSEXT_TICKET_KEYS and so on: macros over SSL_CTX_ctrl, in openssl/ssl.h.
_SET_TICKET_KEYS: Final = 59
_SET_GROUPS_LIST: Final = 92
_SET_STATUS_CALLBACK: Final = 63  # Over SSL_CTX_callback_ctrl, and the next one over SSL_ctrl.
_SET_STATUS_RESPONSE: Final = 71
_VERIFY_PEER: Final = 1
_STAPLED: Final = 0  # SSL_TLSEXT_ERR_OK and SSL_TLSEXT_ERR_NOACK, in openssl/tls1.h.
_NOTHING_TO_STAPLE: Final = 3

_VERIFY = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p)
_STATUS = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)

# Whoever comes is let in, with what is wrong with its certificate: an answer can say it, a failed handshake cannot.
_LET_IN: Final = _VERIFY(lambda _good, _store: 1)


class OpenSsl:
    """The library, loaded; raises `AttributeError` and `OSError` where it cannot be."""

    def __init__(self) -> None:
        import _ssl  # noqa: PLC0415 - what it links to is the library that is wanted

        library = ctypes.CDLL(getattr(_ssl, "__file__", None))
        self._control = _function(library.SSL_CTX_ctrl, ctypes.c_long, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
        self._options = _function(library.SSL_CTX_get_options, ctypes.c_uint64)
        self._verify = _function(library.SSL_CTX_set_verify, None, ctypes.c_int, _VERIFY)
        self._depth = _function(library.SSL_CTX_set_verify_depth, None, ctypes.c_int)
        self._context_of = _function(library.SSL_get_SSL_CTX, ctypes.c_void_p)
        self._result = _function(library.SSL_get_verify_result, ctypes.c_long)
        self._words = library.X509_verify_cert_error_string
        self._words.restype, self._words.argtypes = ctypes.c_char_p, (ctypes.c_long,)
        self._load_names = library.SSL_load_client_CA_file
        self._load_names.restype, self._load_names.argtypes = ctypes.c_void_p, (ctypes.c_char_p,)
        self._set_names = _function(library.SSL_CTX_set_client_CA_list, None, ctypes.c_void_p)
        self._timeout = _function(library.SSL_CTX_set_timeout, ctypes.c_long, ctypes.c_long)
        self._current = _function(library.SSL_CTX_get0_certificate, ctypes.c_void_p)
        self._chosen = _function(library.SSL_get_certificate, ctypes.c_void_p)
        self._call_back = _function(library.SSL_CTX_callback_ctrl, ctypes.c_long, ctypes.c_int, _STATUS)
        self._control_one = _function(library.SSL_ctrl, ctypes.c_long, ctypes.c_int, ctypes.c_long, ctypes.c_void_p)
        self._allocate = library.CRYPTO_malloc
        self._allocate.restype = ctypes.c_void_p
        self._allocate.argtypes = (ctypes.c_size_t, ctypes.c_char_p, ctypes.c_int)
        self._expectations = _function(library.SSL_CTX_get0_param, ctypes.c_void_p)
        self._expect_name = _function(
            library.X509_VERIFY_PARAM_set1_host, ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t
        )
        self._expect_address = _function(library.X509_VERIFY_PARAM_set1_ip_asc, ctypes.c_int, ctypes.c_char_p)

    def works(self) -> bool:
        """Return whether contexts are where they are looked for, and take what they are given."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if self._options(_pointer(context)) & 0xFFFFFFFF != context.options & 0xFFFFFFFF:
            return False
        key, found = secrets.token_bytes(TICKET_KEY), ctypes.create_string_buffer(TICKET_KEY)
        self.set_ticket_key(context, key)
        self._control(_pointer(context), _GET_TICKET_KEYS, TICKET_KEY, ctypes.addressof(found))
        connection = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
        return found.raw == key and self._context_of(_connection(connection)) == _pointer(context)

    def set_ticket_key(self, context: ssl.SSLContext, key: bytes) -> None:
        """Have sessions resumed whose tickets were issued with `key`, by whomever; tickets of other keys are void."""
        buffer = ctypes.create_string_buffer(key, TICKET_KEY)
        self._control(_pointer(context), _SET_TICKET_KEYS, TICKET_KEY, ctypes.addressof(buffer))

    def set_curves(self, context: ssl.SSLContext, curves: str) -> bool:
        """Offer these curves, parted by colons, in their order; return whether OpenSSL knows them all."""
        buffer = ctypes.create_string_buffer(curves.encode())
        return bool(self._control(_pointer(context), _SET_GROUPS_LIST, 0, ctypes.addressof(buffer)) == 1)

    def ask_for_certificates(self, context: ssl.SSLContext, path: str, depth: int) -> None:
        """Ask clients for certificates by the authorities in the file `path`, and let in who has none, or a bad one."""
        self._set_names(_pointer(context), self._load_names(path.encode()))
        self._depth(_pointer(context), depth)
        self._verify(_pointer(context), _VERIFY_PEER, _LET_IN)

    def verified(self, connection: ssl.SSLObject) -> tuple[int, str]:
        """Return OpenSSL's code for what is wrong with the peer's certificate, 0 for nothing, and its words for it."""
        code = self._result(_connection(connection))
        return code, self._words(code).decode(errors="replace")

    def expect(self, context: ssl.SSLContext, name: str, depth: int) -> None:
        """Have peers verified by `name`, or an address, whatever they are told, and chains of at most `depth` between.

        Raises `ValueError` for a name that can be none.
        """
        wanted, encoded = self._expectations(_pointer(context)), name.encode("idna")
        self._depth(_pointer(context), depth)
        if not self._expect_address(wanted, encoded) and not self._expect_name(wanted, encoded, len(encoded)):
            raise ValueError(f"{name!r} is no name for a certificate")

    def certificate(self, context: ssl.SSLContext) -> int | None:
        """Return where the certificate is that was added to the context last."""
        found: int | None = self._current(_pointer(context))
        return found

    def staple(self, context: ssl.SSLContext, response: Callable[[int | None], bytes]) -> object:
        """Have clients that ask get the OCSP `response` for the certificate at a place; empty is none.

        What is returned has to live as long as the context.
        """

        def answer(connection: int, _argument: object) -> int:
            data = response(self._chosen(connection))
            memory = self._allocate(len(data), b"", 0) if data else None
            if memory is None:
                return _NOTHING_TO_STAPLE
            ctypes.memmove(memory, data, len(data))
            # From here on the memory is OpenSSL's, which frees it.
            self._control_one(connection, _SET_STATUS_RESPONSE, len(data), memory)
            return _STAPLED

        called = _STATUS(answer)
        self._call_back(_pointer(context), _SET_STATUS_CALLBACK, called)
        return called

    def set_session_timeout(self, context: ssl.SSLContext, seconds: int) -> None:
        """Have sessions resumed for so long."""
        self._timeout(_pointer(context), seconds)


@cache
def openssl() -> OpenSsl | None:
    """Return the library, or None where Python's is built so that it cannot be reached."""
    try:
        found = OpenSsl()
        if sys.implementation.name == "cpython" and found.works():
            return found
    except (AttributeError, OSError) as error:
        _log.warning("OpenSSL cannot be reached (%s): each worker resumes its own TLS sessions only", error)
        return None
    _log.warning("OpenSSL is not where it is looked for: each worker resumes its own TLS sessions only")
    return None


def _function(
    function: ctypes._NamedFuncPointer,
    result: type[ctypes._SimpleCData[int]] | type[ctypes.c_void_p] | None,
    *arguments: type[ctypes._CDataType],
) -> ctypes._NamedFuncPointer:
    """Return a function of a context with its types."""
    function.restype, function.argtypes = result, (ctypes.c_void_p, *arguments)
    return function


def _pointer(context: ssl.SSLContext) -> int | None:
    """Return the SSL_CTX, the first that CPython's PySSLContext holds behind what every object begins with."""
    return ctypes.c_void_p.from_address(id(context) + object.__basicsize__).value


def _connection(connection: ssl.SSLObject) -> int | None:
    """Return the SSL, the second pointer of CPython's PySSLSocket, behind a weak reference to a socket."""
    inner = connection._sslobj  # type: ignore[attr-defined] # noqa: SLF001 - the object that holds it
    return ctypes.c_void_p.from_address(id(inner) + object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)).value
