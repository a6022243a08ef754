"""Where Convoy may fetch from: what a tag, a model or fleet.yaml names is looked at before anything is asked there.

An address that leads to this machine, to its network or to a cloud's metadata service would hand out what only insiders
may read (server-side request forgery: CVE-2025-54381 in BentoML). Private places that are meant stand in the setting
CONVOY_TRUSTED_HOSTS; a metadata service is never asked. What a name resolves to may differ when it is asked again, and a
library that fetches for us follows redirects by itself: a firewall belongs around the control plane all the same.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, unquote, urlsplit

from fleet.errors import Refused, Unreachable

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str], Collection[str]]
"""Gives the addresses of a host's name; none where there is no such name."""

LONGEST = 2000
DECODINGS = 3
BUCKETS: Final = frozenset({"s3", "gs", "gcs", "azure", "abfs", "abfss", "az", "oss"})
"""Schemes whose first part names a bucket: its cloud's library knows where that is."""
FETCHED: Final = frozenset({"https", "http", "ssh", "git", "webdav", "webdavs"}) | BUCKETS
USERS: Final = frozenset({"ssh", "git"})
"""Schemes whose user is no secret."""
NEVER: Final = tuple(
    # Link-local, then the metadata services of AWS, GCP, Alibaba and Azure that are not
    map(
        ipaddress.ip_network,
        ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128", "fd20:ce::254/128", "100.100.100.200/32", "168.63.129.16/32"),
    )
)
METADATA_NAMES: Final = frozenset(
    {"metadata", "metadata.google.internal", "instance-data", "instance-data.ec2.internal", "metadata.azure.com"}
)
_HOST = re.compile(r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_NUMBERS = re.compile(r"(?:0[xX][0-9A-Fa-f]*|[0-9]+)(?:\.(?:0[xX][0-9A-Fa-f]*|[0-9]+)){0,3}")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
# As Git tells its short form from a path: by a colon before the first slash (git-clone(1), GIT URLS)
_SHORT = re.compile(r"[^/:]*:")
_SCP = re.compile(r"(?:(?P<user>[^/:\[\]]*)@)?(?P<host>\[[^\]/@]*\]|[^/@:\[\]]*):(?P<path>.*)", re.DOTALL)
_EMBEDDED: Final = (
    # Where an IPv6 address holds an IPv4 one, from which bit: IPv4-compatible, NAT64 (RFC 6052), 6to4
    (ipaddress.ip_network("::/96"), 0),
    (ipaddress.ip_network("64:ff9b::/96"), 0),
    (ipaddress.ip_network("2002::/16"), 80),
)


def addresses_of(host: str) -> Collection[str]:
    """Ask this machine's resolver for the addresses of a host's name."""
    try:
        return {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (socket.gaierror, UnicodeError):
        return ()


@dataclass(frozen=True, slots=True)
class Reach:
    """Where one may fetch from: public places, and the private ones that are trusted (names, addresses, networks)."""

    trusted: frozenset[str] = frozenset()
    resolve: Resolve = addresses_of

    @classmethod
    def of(cls, trusted: str) -> Reach:
        """Return the reach that a setting gives: names and networks, separated by commas."""
        return cls(frozenset(part.strip().lower().rstrip(".") for part in trusted.split(",") if part.strip()))

    def check(self, url: str, subject: str) -> None:
        """Raise Refused unless a URL may be fetched, Unreachable where its host has no address now. A path on this disk may."""
        if not is_remote(url):
            if why := _unfit_here(url):
                raise Refused(subject, f"{shown(url)} {why}", "Correct it.")
            return
        why = _helper(url) or _unfit_short(url) or self.unfit(_as_url(url))
        if why:
            raise Refused(subject, f"{shown(url)} {why}", "Correct it; a private place that is meant belongs into CONVOY_TRUSTED_HOSTS.")

    def unfit(self, url: str) -> str:
        """Say why a URL may not be fetched, in words that follow it; nothing where it may. Raises Unreachable."""
        if why := _unfit_text(url):
            return why
        try:
            parts = urlsplit(url)
            host, _ = parts.hostname or "", parts.port
        except ValueError:
            return "is no URL"
        if parts.scheme not in FETCHED:
            return f"has the scheme '{parts.scheme}', which is not fetched (known: {', '.join(sorted(FETCHED))})"
        if why := _unfit_user(parts) or unfit_path(parts.path):
            return why
        return "" if parts.scheme in BUCKETS else self._unfit_host(host.rstrip("."))

    def _unfit_host(self, host: str) -> str:
        if host in METADATA_NAMES:
            return "names a cloud's metadata service"
        literal = _literal(host)
        if isinstance(literal, str):
            return literal
        if literal is not None:
            return self._unfit_addresses([literal], host)
        if not _HOST.fullmatch(host):
            return "names no host"
        found = self.resolve(host)
        if not found:
            raise Unreachable(host, "has no address", "Check the name, or the network.")
        return self._unfit_addresses([ipaddress.ip_address(address.partition("%")[0]) for address in found], host)

    def _unfit_addresses(self, addresses: Iterable[Address], host: str) -> str:
        for address in addresses:
            for real in _meant(address):
                if any(real.version == network.version and real in network for network in NEVER):
                    return f"leads to {address}, which is link-local or a cloud's metadata service"
                if not _public(real) and not self._is_trusted(host, real):
                    return f"leads to {address}, which is not public"
        return ""

    def _is_trusted(self, host: str, address: Address) -> bool:
        for text in self.trusted:
            if text == host:
                return True
            try:
                network = ipaddress.ip_network(text)
            except ValueError:
                continue
            if network.version == address.version and address in network:
                return True
        return False


def is_remote(place: str) -> bool:
    """Whether a place is fetched over a network: no path and no file:// URL of this machine."""
    if place.startswith("file:///"):
        return False
    return bool(_SCHEME.match(place)) or bool(_SHORT.match(place)) or "::" in place


def shown(url: str) -> str:
    """Return a URL for a message: printable, short, without what may be a password."""
    return "".join(sign if sign.isprintable() else "?" for sign in without_password(url)[:200])


def without_password(url: str) -> str:
    """Return a URL without what may be a password in front of its host."""
    return re.sub(r"//[^/@\s]*@", "//…@", url)


def _as_url(place: str) -> str:
    """Return Git's short form HOST:PATH as the URL that it stands for."""
    scp = None if _SCHEME.match(place) else _SCP.fullmatch(place)
    if scp is None:
        return place
    user = f"{scp['user']}@" if scp["user"] else ""
    return f"ssh://{user}{scp['host']}/{scp['path'].lstrip('/')}"


def _unfit_short(place: str) -> str:
    """Refuse in Git's short form what a URL would take apart otherwise: Git hands all that stands before the colon to ssh."""
    if _SCHEME.match(place) or not _SHORT.match(place):
        return ""
    scp = _SCP.fullmatch(place)
    if scp is None or not (scp["host"].startswith("[") or _HOST.fullmatch(scp["host"])):
        return "names no host"
    if scp["user"] is not None and not _USER.fullmatch(scp["user"]):
        return "has a user in it that is none"
    return unfit_path(scp["path"])


def _unfit_text(url: str) -> str:
    if len(url) > LONGEST:
        return f"is longer than {LONGEST} characters"
    if not url.isascii() or any(sign.isspace() or not sign.isprintable() or sign in '\\"<>^`{|}' for sign in url):
        return "has a sign in it that no URL has"
    return ""


def _helper(place: str) -> str:
    """Refuse Git's remote helpers, which are programs that Git runs: gitremote-helpers(7)."""
    return "has Git run a program" if re.match(r"[^/]*::", place) and not _SCHEME.match(place) else ""


def _unfit_here(path: str) -> str:
    if path.startswith("-"):
        return "begins with a dash, which a program takes for an option"
    return "has an unprintable sign in it" if any(not sign.isprintable() for sign in path) else ""


def _unfit_user(parts: SplitResult) -> str:
    if "@" not in parts.netloc:
        return ""
    user, _, _ = parts.netloc.rpartition("@")
    if parts.scheme in USERS and _USER.fullmatch(user):
        return ""
    return "has a user or a password in it"


def unfit_path(path: str) -> str:
    """Refuse a path that leaves its folder, however often it is decoded."""
    for _ in range(DECODINGS + 1):
        if any(not sign.isprintable() for sign in path):
            return "has an unprintable sign in its path"
        if ".." in re.split(r"[/\\]", path):
            return "leaves its folder by '..'"
        decoded = unquote(path)
        if decoded == path:
            return ""
        path = decoded
    return f"is encoded more than {DECODINGS} times"


def _literal(host: str) -> Address | str | None:
    """Return the address that a host is written as, None for a name, and why not for one that is written to hide."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        if ":" in host:
            return "has an address in it that is none"
        return "writes an address as no address is written" if _NUMBERS.fullmatch(host) else None


def _meant(address: Address) -> Iterable[Address]:
    """Give an address and the IPv4 address that it stands for, if it does."""
    yield address
    if isinstance(address, ipaddress.IPv4Address):
        return
    if address.ipv4_mapped is not None:
        yield address.ipv4_mapped
    if address.teredo is not None:
        yield from address.teredo
    for network, bit in _EMBEDDED:
        if address in network:
            yield ipaddress.IPv4Address(int(address) >> bit & 0xFFFFFFFF)


def _public(address: Address) -> bool:
    # Which IPv4 address a local NAT64 makes of it is its own affair (RFC 8215)
    local = address.version == 6 and address in ipaddress.ip_network("64:ff9b:1::/48")
    return address.is_global and not address.is_multicast and not local
