from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from doctor.conftest import Examine
from doctor.nginx import GOOD, nginx

from llmserve.doctor import Target, Verdict
from llmserve.doctor.certificate import DAY_SECONDS, Certificate, judge_certificate

NOW = 1_800_000_000.0
TARGET = Target.parse("https://llm.example.org")


def certificate(
    days_left: float = 90, distrust: str | None = None, mismatch: str | None = None
) -> Certificate:
    ends = NOW + days_left * DAY_SECONDS
    return Certificate(NOW - DAY_SECONDS, ends, "an authority", "TLSv1.3", "h2", distrust, mismatch)


@contextmanager
def tls(
    folder: Path, upstream: int, authority: trustme.CA, host: str, **dates: datetime
) -> Iterator[int]:
    """An nginx with a certificate for this host."""
    leaf = authority.issue_cert(host, **dates)
    pem = folder / "server.pem"
    leaf.private_key_and_cert_chain_pem.write_to_path(pem)
    server = f"ssl_certificate {pem}; ssl_certificate_key {pem};"
    with nginx(folder / "nginx", upstream, GOOD, server, tls=True) as port:
        yield port


@pytest.fixture
def authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> trustme.CA:
    """One that this machine trusts, for as long as the test runs."""
    authority = trustme.CA()
    pem = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    return authority


def test_a_certificate_that_ends_soon_is_a_warning() -> None:
    finding = judge_certificate(certificate(days_left=5.5), TARGET, NOW)
    assert finding.verdict is Verdict.WARNING
    assert "5 days" in finding.seen


def test_a_certificate_that_has_not_begun_is_a_problem() -> None:
    finding = judge_certificate(certificate(), TARGET, NOW - 2 * DAY_SECONDS)
    assert finding.verdict is Verdict.PROBLEM


def test_everything_that_is_wrong_is_told_at_once() -> None:
    bad = certificate(days_left=-3, distrust="self-signed", mismatch="another name")
    finding = judge_certificate(bad, TARGET, NOW)
    assert finding.verdict is Verdict.PROBLEM
    assert all(word in finding.seen for word in ("expired", "self-signed", "another name"))


def test_who_asked_for_no_trust_is_warned_of_its_absence() -> None:
    target = Target.parse("https://llm.example.org", insecure=True)
    assert judge_certificate(certificate(distrust="x"), target, NOW).verdict is Verdict.WARNING


def test_plain_http_on_a_tls_port_is_told(tmp_path: Path, fake: int, examined: Examine) -> None:
    found = examined(fake, scheme="https")
    assert found["reachability"].verdict is Verdict.PROBLEM
    assert found["certificate"].verdict is Verdict.PROBLEM


def test_an_expired_certificate_ends_the_examination(
    tmp_path: Path, fake: int, examined: Examine, authority: trustme.CA
) -> None:
    now = datetime.now(UTC)
    dates = {"not_before": now - timedelta(days=9), "not_after": now - timedelta(days=2)}
    with tls(tmp_path, fake, authority, "127.0.0.1", **dates) as port:
        found = examined(port, scheme="https")
    assert set(found) == {"reachability", "certificate"}
    finding = found["certificate"]
    assert finding.verdict is Verdict.PROBLEM
    assert "expired" in finding.seen
    assert finding.figures["is_trusted"]
    assert finding.figures["is_for_host"]


def test_an_expired_certificate_is_told_to_those_who_do_not_verify(
    tmp_path: Path, fake: int, examined: Examine, authority: trustme.CA
) -> None:
    now = datetime.now(UTC)
    dates = {"not_before": now - timedelta(days=9), "not_after": now - timedelta(days=2)}
    with tls(tmp_path, fake, authority, "127.0.0.1", **dates) as port:
        found = examined(port, scheme="https", insecure=True)
    assert found["certificate"].verdict is Verdict.PROBLEM
    assert found["token arrival"].verdict is Verdict.OK
    assert found["WebSocket"].verdict is Verdict.OK


def test_another_hosts_certificate_is_a_problem(
    tmp_path: Path, fake: int, examined: Examine, authority: trustme.CA
) -> None:
    with tls(tmp_path, fake, authority, "another.example.org") as port:
        finding = examined(port, scheme="https")["certificate"]
    assert finding.verdict is Verdict.PROBLEM
    assert finding.figures["is_trusted"]
    assert not finding.figures["is_for_host"]
    assert any("server_name" in line for line in finding.change)


def test_an_unknown_authority_is_a_problem_unless_nobody_verifies(
    tmp_path: Path, fake: int, examined: Examine, authority: trustme.CA
) -> None:
    with tls(tmp_path, fake, trustme.CA(), "127.0.0.1") as port:
        strict = examined(port, scheme="https")
        lax = examined(port, scheme="https", insecure=True)
    assert strict["certificate"].verdict is Verdict.PROBLEM
    assert any("--insecure" in line for line in strict["reachability"].change)
    assert lax["certificate"].verdict is Verdict.WARNING
    assert not lax["certificate"].figures["is_trusted"]
    assert lax["token arrival"].verdict is Verdict.OK


def test_a_good_certificate_has_nothing_to_change(
    tmp_path: Path, fake: int, examined: Examine, authority: trustme.CA
) -> None:
    with tls(tmp_path, fake, authority, "127.0.0.1") as port:
        found = examined(port, scheme="https", idle_seconds=0.2)
    assert {name: f.seen for name, f in found.items() if f.verdict is not Verdict.OK} == {}
    assert "certificate" in found
