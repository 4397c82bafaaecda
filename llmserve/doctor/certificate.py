"""What a server's certificate says, and whether clients trust it.

There is one handshake for each question: OpenSSL stops at the first fault, and an expired
certificate may be another host's as well.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Any, Final

import httpx

from llmserve.doctor.answer import printable
from llmserve.doctor.finding import Figure, Finding, Verdict
from llmserve.doctor.target import CONNECT_SECONDS, Target

NAME: Final = "certificate"
SOON_DAYS: Final = 14
DAY_SECONDS: Final = 86_400
NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python has no name for."""

RENEW: Final = (
    "renew it and reload the proxy: `certbot renew && nginx -s reload`",
    "ingress-nginx: look at cert-manager's Certificate, or replace the secret under `tls:`",
)
WHOLE_CHAIN: Final = (
    "nginx: `ssl_certificate` must name the full chain (fullchain.pem), not the leaf alone",
    "HAProxy: the `crt` file holds leaf, intermediates and key",
    "an authority of your own: give clients its certificate by SSL_CERT_FILE=ca.pem",
)
RIGHT_HOST: Final = (
    "use a name that the certificate has, or issue one for this name",
    (
        "nginx: `server_name` must have this host; HAProxy: `crt-list`; ingress-nginx: "
        "`tls: - hosts:`, or its own fake certificate is served"
    ),
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """The certificate that was presented.

    Attributes:
        begins, ends: seconds since 1970.
        distrust: why this machine's certificate authorities do not vouch for it.
        mismatch: why it is not this host's.
    """

    begins: float
    ends: float
    issuer: str
    tls_version: str
    protocol: str | None
    distrust: str | None
    mismatch: str | None


async def inspect(target: Target) -> Certificate:
    """Do handshakes until everything is known.

    Raises:
        OSError: there is no TLS connection (ssl.SSLError is an OSError).
    """
    bare = _context()
    bare.verify_mode = ssl.CERT_NONE
    leaf = (await _shake_hands(target, bare)).getpeercert(binary_form=True)
    assert leaf is not None  # every TLS server presents one
    session = await _shake_hands(target, _leaf_context(leaf))
    facts: dict[str, Any] = session.getpeercert() or {}
    hosts = _leaf_context(leaf)
    hosts.check_hostname = True
    return Certificate(
        begins=ssl.cert_time_to_seconds(facts["notBefore"]),
        ends=ssl.cert_time_to_seconds(facts["notAfter"]),
        issuer=_common_name(facts.get("issuer", ())),
        tls_version=session.version() or "",
        protocol=session.selected_alpn_protocol(),
        distrust=await _objection(target, _chain_context()),
        mismatch=await _objection(target, hosts),
    )


def judge_certificate(certificate: Certificate, target: Target, clock: float) -> Finding:
    """All its faults; missing trust is only a warning with `--insecure`."""
    days = int((certificate.ends - clock) // DAY_SECONDS)
    figures: dict[str, Figure] = {
        "days_left": days,
        "issuer": certificate.issuer,
        "tls_version": certificate.tls_version,
        "alpn": certificate.protocol,
        "is_trusted": certificate.distrust is None,
        "is_for_host": certificate.mismatch is None,
    }
    untrusted = Verdict.PROBLEM if target.is_verified else Verdict.WARNING
    faults: list[tuple[Verdict, str, tuple[str, ...]]] = []
    if clock > certificate.ends:
        faults.append((Verdict.PROBLEM, f"expired {-days} days ago", RENEW))
    elif clock < certificate.begins:
        faults.append((Verdict.PROBLEM, "not valid yet", ("check both clocks",)))
    elif days < SOON_DAYS:
        faults.append((Verdict.WARNING, f"only {days} days left", RENEW))
    if certificate.mismatch is not None:
        faults.append((untrusted, f"not for {target.host}: {certificate.mismatch}", RIGHT_HOST))
    if certificate.distrust is not None:
        faults.append((untrusted, f"not trusted: {certificate.distrust}", WHOLE_CHAIN))
    about = f"{certificate.tls_version}, {certificate.protocol or 'no ALPN'}, issued by "
    about += f"{certificate.issuer}, {days} days left"
    if not faults:
        return Finding(NAME, Verdict.OK, about, figures=figures)
    verdicts = {verdict for verdict, _, _ in faults}
    worst = Verdict.PROBLEM if Verdict.PROBLEM in verdicts else Verdict.WARNING
    seen = "; ".join(words for _, words, _ in faults)
    change = tuple(line for _, _, lines in faults for line in lines)
    return Finding(NAME, worst, f"{seen} ({about})", change, figures)


async def _shake_hands(target: Target, context: ssl.SSLContext) -> ssl.SSLObject:
    async with asyncio.timeout(CONNECT_SECONDS):
        _, writer = await asyncio.open_connection(
            target.host, target.port, ssl=context, server_hostname=target.host
        )
    session = writer.get_extra_info("ssl_object")
    writer.transport.abort()  # nothing was sent, so there is nothing to wait for
    assert isinstance(session, ssl.SSLObject)
    return session


async def _objection(target: Target, context: ssl.SSLContext) -> str | None:
    try:
        await _shake_hands(target, context)
    except ssl.SSLCertVerificationError as error:
        return printable(error.verify_message)
    return None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def _leaf_context(leaf: bytes) -> ssl.SSLContext:
    """Trusts this one certificate at any time: Python shows the fields of trusted ones only."""
    context = _context()
    context.load_verify_locations(cadata=ssl.DER_cert_to_PEM_cert(leaf))
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | NO_CHECK_TIME
    return context


def _chain_context() -> ssl.SSLContext:
    """Trusts the authorities of this machine and of httpx, for any name and time."""
    context = httpx.create_ssl_context()
    context.load_default_certs()
    context.check_hostname = False
    context.verify_flags |= NO_CHECK_TIME
    return context


def _common_name(names: Any) -> str:
    """The issuer's name from `getpeercert`'s tuples of tuples of pairs."""
    pairs = dict(pair for part in names for pair in part)
    name = pairs.get("commonName") or pairs.get("organizationName") or "nobody"
    return printable(str(name))
