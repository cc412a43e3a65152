"""Reads Secrets and ConfigMaps. No message here ever quotes a Secret's data."""

from __future__ import annotations

import base64
import binascii

from portway_operator.decode.fields import BadObject, Raw, optional_mapping, text
from portway_operator.decode.meta import read_meta
from portway_operator.objects import ConfigMap, Fault, Secret

__all__ = ["TLS_SECRET", "read_config_map", "read_secret"]

TLS_SECRET = "kubernetes.io/tls"  # noqa: S105 - a type, no password
"""The type of the Secrets that hold a certificate."""

_TLS_KEYS = ("tls.crt", "tls.key", "tls.ocsp-staple", "ca.crt", "ca.crl")
# Nobody may point us at these: what they hold opens other doors than ours.
_FOREIGN = ("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "kubernetes.io/dockerconfigjson")
_NO_VALUE = "The value is left out."


def read_secret(raw: Raw) -> Secret:
    """Return a Secret; as for the API server, `stringData` takes the place of `data`.

    A source hands us, beside those with certificates, only those that an annotation names.
    """
    meta = read_meta(raw)
    kind = text(raw.get("type"), "type", "Opaque")
    faults: list[Fault] = []
    data: dict[str, bytes] = {}
    if kind not in _FOREIGN:
        encoded = optional_mapping(raw.get("data"), "data")
        plain = optional_mapping(raw.get("stringData"), "stringData")
        for key in _TLS_KEYS if kind == TLS_SECRET else sorted({*encoded, *plain}):
            try:
                value = _value(encoded, plain, key)
            except BadObject as error:
                faults.append(Fault(error.field, error.code, error.message, _NO_VALUE, error.remedy))
            else:
                if value is not None:
                    data[key] = value
    return Secret(meta, kind, data, tuple(faults))


def _value(encoded: Raw, plain: Raw, key: str) -> bytes | None:
    if plain.get(key) is not None:
        written = text(plain[key], f"stringData[{key}]")
        try:
            return written.encode()
        except UnicodeEncodeError:
            raise BadObject(f"stringData[{key}]", "It is no text.", "Use `data`, in base64.") from None
    if encoded.get(key) is None:
        return None
    written = text(encoded[key], f"data[{key}]")
    try:
        return base64.b64decode(written.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError):
        raise BadObject(f"data[{key}]", "It is not base64.", "Encode it, or use `stringData`.") from None


def read_config_map(raw: Raw) -> ConfigMap:
    """Return a ConfigMap; `binaryData` is not read."""
    data = optional_mapping(raw.get("data"), "data")
    return ConfigMap(read_meta(raw), {key: text(value, f"data[{key!r}]") for key, value in data.items()})
