"""Keys and passwords: the patterns of detect-secrets, and what stands behind ``password:`` and its like.

None of detect-secrets' guesses by entropy is used: they take identifiers and hashes for secrets. None of its verifiers is called:
they would send the key to its service.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from afina.data.clean.numbers import Span


class Detector(NamedTuple):
    """A module of detect_secrets.plugins and letters one of which stands in everything that it finds."""

    module: str
    signs: tuple[str, ...]


_DETECTORS = (
    Detector("artifactory", ("AKC", "AP")),
    Detector("aws", ("A3T", "ABIA", "ACCA", "AKIA", "ASIA", "aws", "AWS")),
    Detector("azure_storage_key", ("AccountKey=",)),
    Detector("cloudant", ("cloudant",)),
    Detector("discord", (".",)),
    Detector("github_token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_")),
    Detector("gitlab_token", ("glpat", "gldt", "glft", "glsoat", "glrt", "GR134", "glcbt", "glimt", "glptt", "glag", "gloas")),
    Detector("ibm_cloud_iam", ("ibm", "IBM", "iam", "IAM", "cloud")),
    Detector("ibm_cos_hmac", ("secret", "SECRET")),
    Detector("jwt", ("eyJ",)),
    Detector("mailchimp", ("-us",)),
    Detector("npm", ("_authToken",)),
    Detector("openai", ("T3BlbkFJ",)),
    Detector("pypi_token", ("pypi-",)),
    Detector("sendgrid", ("SG.",)),
    Detector("slack", ("xox", "XOX", "hooks.slack.com")),
    Detector("softlayer", ("softlayer", "sl_", "sl-")),
    Detector("square_oauth", ("sq0csp-",)),
    Detector("stripe", ("k_live_",)),
    Detector("telegram_token", (":",)),
    Detector("twilio", ("AC", "SK")),
)  # fmt: skip

# Keys that detect-secrets does not know yet.
_OURS = re.compile(
    r"(?<![\w-])(?:sk-ant-[\w-]{20,}|sk-(?:proj-|or-v1-)?[A-Za-z0-9_-]{32,}|gsk_[A-Za-z0-9]{40,}|hf_[A-Za-z0-9]{30,}|"
    r"AIza[\w-]{35}"
    r"|github_pat_\w{22,}|ya29\.[\w-]{20,}|sk_live_\w{20,}|dop_v1_[a-f0-9]{64})(?![\w-])"
)
_OUR_SIGNS = ("sk-", "gsk_", "hf_", "AIza", "github_pat_", "ya29.", "sk_live_", "dop_v1_")

_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY[A-Z ]*-----.*?(?:-----END [A-Z0-9 ]*-----|\Z)|PuTTY-User-Key-File-\d.*", re.DOTALL
)

# What a machine made, and what passes for a password, has a letter beside a digit somewhere; prose seldom has. Letters and some
# signs become "a", digits "0"; then it is a plain search.
_MIXED = bytes(
    0x30 if 0x30 <= byte <= 0x39 else 0x61 if bytes([byte]).isalpha() or byte in b"_!@#*-" else 0x20 for byte in range(256)
)
_SHORTEST_KEY = 20
_KEY_LETTERS = bytes(0x61 if bytes([byte]).isalnum() or byte in b"_-+/=.:" else 0x20 for byte in range(256))
_LONG_WORD = b"a" * _SHORTEST_KEY
_TOKEN_REST = re.compile(r"[\w.=+/-]*[\w=]")

# https://user:password@host
_IN_ADDRESS = re.compile(r"://[^:/?#\[\]@!$&'()*+,;={}<>\s]+:([^:/?#\[\]@!$&'()*+,;={}<>\s]+)@")
# In small letters; one of them stands in every text in which a password or a key file is found.
_PASSWORD_SIGNS = (
    b"passw",
    b"pwd",
    b"passphrase",
    b"contrase",
    b"clave",
    b"senha",
    b"de passe",
    b"secret",
    b"api",
    b"private key",
)
# A password has letters and digits: "contraseña: la de siempre" holds none. No blanks to fill in either: <…>, ${…}, {{…}}, ****.
_PASSWORD = re.compile(
    r"(?i)(?<![^\W_])(?:password|passwd|passphrase|pwd|contrase[ñn]a|clave(?: de acceso| secreta)?|senha|mot de passe|api[_ "
    r"-]?key|"
    r"(?:client[_ -]?)?secret(?:[_ -]?key)?)[\"'`*]{0,3}\s{0,2}(?::|=|\b(?:is|will be|es|será|sera|é)\b:?)\s{0,2}"
    r"(?:[\"'`](?=[^\"'`\n]*[0-9])(?=[^\"'`\n]*[^\W\d_])(?P<quoted>[^\"'`\s<>{}]{5,64})[\"'`]"
    r"|\*{0,2}(?=[^\s\"'`]*[0-9])(?=[^\s\"'`]*[^\W\d_])(?P<bare>[^\s\"'`<>{}()\[\]]{6,64}+)(?![\"'`<>{}()\[\]]))"
)


def may_hold_secrets(text: str, data: bytes) -> bool:
    """False where ``secrets`` would find nothing; ``data`` is the text in UTF-8."""
    mixed = data.translate(_MIXED)
    if b"a0" in mixed or b"0a" in mixed:
        small = data.lower()
        return any(sign in small for sign in _PASSWORD_SIGNS) or _LONG_WORD in data.translate(_KEY_LETTERS)
    return "://" in text and "@" in text


def secrets(text: str) -> Iterator[Span]:
    """Keys and passwords; two of them may overlap, then the first one counts."""
    if "PRIVATE KEY" in text or "PuTTY-User-Key" in text:
        yield from (_span(found, 0, "private-key") for found in _PRIVATE_KEY.finditer(text))
    if any(sign in text for sign in _OUR_SIGNS):
        yield from (_span(found, 0, "key") for found in _OURS.finditer(text))
    for detector in _DETECTORS:
        if any(sign in text for sign in detector.signs):
            for pattern in _patterns(detector.module):
                for found in pattern.finditer(text):
                    span = _span(found, _longest_group(found), detector.module)
                    if _looks_made(span.key):
                        yield span
    if "://" in text and "@" in text:
        yield from (_span(found, 1, "password") for found in _IN_ADDRESS.finditer(text))
    yield from (_span(found, found.lastindex or 0, "password") for found in _PASSWORD.finditer(text))


def _span(found: re.Match[str], group: int, kind: str) -> Span:
    start, end = found.span(group)
    written = found.group(group)
    start += len(written) - len(written.lstrip(" \t\n\"'=:"))
    end -= len(written) - len(written.rstrip(" \t\n\"'.,;:"))
    if kind == "jwt" and (rest := _TOKEN_REST.match(found.string, end)):  # its pattern leaves the signature out
        end = rest.end()
    return Span("secret", start, end, kind, found.string[start:end])


def _longest_group(found: re.Match[str]) -> int:
    """The group that holds the key itself: some patterns have one for it, others one for its beginning."""
    groups = [number for number, group in enumerate(found.groups(), 1) if group and len(group) >= _SHORTEST_KEY]
    return groups[-1] if groups else 0


def _looks_made(key: str) -> bool:
    """Whether a machine made it: letters and digits, not one letter again and again as in ``AKIAXXXXXXXXXXXXXXXX``."""
    return any(map(str.isdigit, key)) and any(map(str.isalpha, key)) and len(set(key)) > 6


@cache
def _patterns(module: str) -> tuple[re.Pattern[str], ...]:
    """The patterns of one plugin; loaded when its signs are first met."""
    plugin = importlib.import_module(f"detect_secrets.plugins.{module}")
    return tuple(pattern for kind in vars(plugin).values() if _is_detector(kind, plugin.__name__) for pattern in kind.denylist)


def _is_detector(kind: object, module: str) -> bool:
    return isinstance(kind, type) and kind.__module__ == module and hasattr(kind, "denylist")
