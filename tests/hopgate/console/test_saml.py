"""Signing in by SAML 2.0: a provider made of its key, and responses that prove something else."""

from __future__ import annotations

import asyncio
import base64
import datetime
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from hopgate.config import load_config
from hopgate.console.desk import Desk
from hopgate.errors import Misconfigured
from tests.hopgate.console import seed
from tests.hopgate.console.conftest import URL, browser

utils = pytest.importorskip(
    "onelogin.saml2.utils", reason="python3-saml is not installed: pip install 'hopgate[saml]'"
).OneLogin_Saml2_Utils

ENTITY = "https://idp.example/metadata"
SSO = "https://idp.example/sso"
PERSISTENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:persistent"
TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
SHA1 = "http://www.w3.org/2000/09/xmldsig#"


@cache
def key_pair(name: str) -> tuple[str, str]:
    """(private key, certificate) as PEM."""
    key = rsa.generate_private_key(65537, 2048)
    called, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(called)
        .issuer_name(called)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(1))
        .not_valid_after(now + datetime.timedelta(30))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


def metadata() -> str:
    certificate = "".join(key_pair("idp")[1].splitlines()[1:-1])
    return f"""<EntityDescriptor xmlns="urn:oasis:names:tc:SAML:2.0:metadata" entityID="{ENTITY}">
<IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"><KeyDescriptor use="signing">
<KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data><X509Certificate>{certificate}</X509Certificate></X509Data></KeyInfo>
</KeyDescriptor><SingleSignOnService Binding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect" Location="{SSO}"/></IDPSSODescriptor>
</EntityDescriptor>"""


@dataclass
class Answer:
    """What the provider says. Tests change a field."""

    request: str
    subject: str = "alice"
    form: str = PERSISTENT
    groups: tuple[str, ...] = ("dba",)
    audience: str = f"{URL}/login/saml/metadata"
    recipient: str = f"{URL}/login/saml/acs"
    issuer: str = ENTITY
    key: str = "idp"
    seconds: int = 300
    signs: str = "assertion"
    outer: str | None = None  # InResponseTo of the response around the assertion, if it differs
    algorithms: tuple[str, ...] = field(default=())
    change: Callable[[str], str] = str

    def xml(self) -> str:
        now = datetime.datetime.now(datetime.UTC)
        start, end = ((now + datetime.timedelta(seconds=each)).strftime("%Y-%m-%dT%H:%M:%SZ") for each in (-400, self.seconds))
        groups = "".join(f"<saml:AttributeValue>{each}</saml:AttributeValue>" for each in self.groups)
        restriction = f"<saml:AudienceRestriction><saml:Audience>{self.audience}</saml:Audience></saml:AudienceRestriction>"
        assertion = f"""<saml:Assertion xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"
ID="_assertion" Version="2.0" IssueInstant="{start}">
<saml:Issuer>{self.issuer}</saml:Issuer><saml:Subject><saml:NameID Format="{self.form}">{self.subject}</saml:NameID>
<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer"><saml:SubjectConfirmationData NotOnOrAfter="{end}"
Recipient="{self.recipient}" InResponseTo="{self.request}"/></saml:SubjectConfirmation></saml:Subject>
<saml:Conditions NotBefore="{start}" NotOnOrAfter="{end}">{restriction if self.audience else ""}</saml:Conditions>
<saml:AuthnStatement AuthnInstant="{start}" SessionIndex="_s"><saml:AuthnContext>
<saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>
<saml:AttributeStatement><saml:Attribute Name="groups">{groups}</saml:Attribute><saml:Attribute Name="mail">
<saml:AttributeValue>alice@corp.example</saml:AttributeValue></saml:Attribute></saml:AttributeStatement></saml:Assertion>"""
        if self.signs == "assertion":
            assertion = self._signed(assertion)
        outer = self.request if self.outer is None else self.outer
        answers = f'InResponseTo="{outer}"' if outer else ""
        response = f"""<samlp:Response xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol" xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion"
ID="_response" Version="2.0" IssueInstant="{start}" Destination="{self.recipient}" {answers}><saml:Issuer>{self.issuer}</saml:Issuer>
<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>{assertion}</samlp:Response>"""
        return self.change(self._signed(response) if self.signs == "response" else response)

    def _signed(self, xml: str) -> str:
        private, certificate = key_pair(self.key)
        more = dict(zip(("sign_algorithm", "digest_algorithm"), self.algorithms, strict=False))
        found: bytes | str = utils.add_sign(xml, private, certificate, **more)
        return found.decode() if isinstance(found, bytes) else found


def configured(directory: Path, more: str = "") -> Any:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "idp.xml").write_text(metadata())
    before = seed.CONFIG
    seed.CONFIG = before.replace("viewers: [staff]", f"viewers: [staff], saml: {{{{name: corp, metadata: idp.xml{more}}}}}")
    try:
        return seed.configure(directory)
    finally:
        seed.CONFIG = before


def asked(url: str) -> dict[str, str]:
    """The AuthnRequest and state of where the browser is sent."""
    assert url.startswith(f"{SSO}?")
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    request = ElementTree.fromstring(zlib.decompress(base64.b64decode(query["SAMLRequest"]), -15))
    assert request.get("AssertionConsumerServiceURL") == f"{URL}/login/saml/acs"
    return {"request": request.get("ID", ""), "state": query["RelayState"]}


def signed_in(
    directory: Path,
    *,
    more: str = "",
    between: Callable[[httpx.AsyncClient, dict[str, str]], None] | None = None,
    **answer: Any,
) -> tuple[httpx.Response, httpx.Response, httpx.Response]:
    """The answers to the provider's post, to the step after it, and to the first page."""

    async def run() -> tuple[httpx.Response, httpx.Response, httpx.Response]:
        desk = await Desk.open(configured(directory, more), process="console-0")
        try:
            async with browser(desk) as client, browser(desk) as foreign:
                assert "Sign in with corp" in (await client.get("/login")).text
                begun = await client.get("/login/saml", params={"next": "/sessions"})
                flow = asked(begun.headers["location"])
                if between is not None:
                    between(client, flow)
                xml = Answer(**{"request": flow["request"], **answer}).xml()
                form = {"SAMLResponse": base64.b64encode(xml.encode()).decode(), "RelayState": flow["state"]}
                # from the provider's page: another site, and none of our cookies
                headers = {"Origin": "https://idp.example", "Sec-Fetch-Site": "cross-site"}
                posted = await foreign.post("/login/saml/acs", data=form, headers=headers)
                assert "set-cookie" not in posted.headers
                again = await foreign.post("/login/saml/acs", data=form, headers=headers)
                assert again.status_code == 401  # a response is good once
                done = await client.get(posted.headers.get("location", f"/login/saml/done?state={flow['state']}"))
                return posted, done, await client.get("/sessions")
        finally:
            await desk.close()

    return asyncio.run(run())


@pytest.mark.parametrize("signs", ["assertion", "response"])
def test_a_person_signs_in(tmp_path: Path, signs: str) -> None:
    # a signature around everything alone is not asked for: assertions are what is believed
    posted, done, page = signed_in(tmp_path, signs=signs)
    if signs == "response":
        assert posted.status_code == 401
        return
    assert (posted.status_code, done.status_code, done.headers["location"]) == (303, 303, "/sessions")
    assert page.status_code == 200
    assert "reviewer" in page.text
    assert "alice" in page.text
    ledger = (tmp_path / "var" / "ledger" / "console-0.ndjson").read_text()
    assert '"by":"corp:alice"' in ledger
    assert '"how":"saml corp"' in ledger


def test_an_attribute_may_name_the_person(tmp_path: Path) -> None:
    _, done, page = signed_in(tmp_path, more=", subject: mail", form=TRANSIENT, subject="_x1")
    assert done.status_code == 303
    assert "alice@corp.example" in page.text


def wrapped(xml: str) -> str:
    """A second, unsigned assertion before the signed one."""
    start, end = xml.index("<saml:Assertion"), xml.index("</saml:Assertion>") + len("</saml:Assertion>")
    forged = xml[start:end].replace(">alice<", ">mallory<").replace('ID="_assertion"', 'ID="_forged"')
    signature = forged.index("<ds:Signature"), forged.index("</ds:Signature>") + len("</ds:Signature>")
    return xml[:start] + forged[: signature[0]] + forged[signature[1] :] + xml[start:]


def commented(xml: str) -> str:
    """A comment in the name, which some libraries read up to only (CVE-2017-11427)."""
    return xml.replace(">alice<", ">al<!-- -->ice<")


def entity(xml: str) -> str:
    return '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + xml


@pytest.mark.parametrize(
    "answer",
    [
        {"key": "other"},
        {"signs": "nothing"},
        {"audience": "https://other.example"},
        {"audience": ""},
        {"issuer": "https://other.example/metadata"},
        {"recipient": "https://other.example/acs"},
        {"seconds": -310},
        {"request": "_of-another-sign-in"},
        {"request": "_of-another-sign-in", "outer": ""},  # the one that is not signed is left out
        {"form": TRANSIENT},
        {"subject": ""},
        {"groups": ("agents",)},  # known, and without a role
        {"groups": ()},
        {"algorithms": (f"{SHA1}rsa-sha1", f"{SHA1}sha1")},
        {"change": wrapped},
        {"change": entity},
        {"change": lambda xml: xml.replace(">dba<", ">ops<")},
        {"change": lambda xml: "<a>" * 5000},
        {"change": lambda xml: "no XML"},
    ],
    ids=lambda answer: ",".join(f"{name}={getattr(value, '__name__', value)}" for name, value in answer.items())[:60],
)
def test_a_response_that_proves_something_else_signs_nobody_in(tmp_path: Path, answer: dict[str, Any]) -> None:
    posted, done, page = signed_in(tmp_path, **answer)
    assert posted.status_code in (303, 401, 403), posted.text
    assert "hopgate=hgc_" not in done.headers.get("set-cookie", "")
    assert page.headers.get("location", "").startswith("/login")


def test_a_comment_in_a_name_does_not_cut_it(tmp_path: Path) -> None:
    _, done, page = signed_in(tmp_path, change=commented)
    assert done.status_code in (303, 401)
    if done.status_code == 303:  # canonical XML has no comments: the signature holds, and so must the name
        assert "alice" in page.text


@pytest.mark.parametrize("what", ["cookie", "state"])
def test_another_browser_ends_nobody_elses_sign_in(tmp_path: Path, what: str) -> None:
    def between(client: httpx.AsyncClient, flow: dict[str, str]) -> None:
        if what == "cookie":
            client.cookies.clear()
        else:
            flow["state"] = "somebody-elses"

    _, done, page = signed_in(tmp_path, between=between)
    assert done.status_code == 401
    assert page.headers.get("location", "").startswith("/login")


def test_nothing_else_may_be_posted_from_another_site(tmp_path: Path) -> None:
    async def run() -> None:
        desk = await Desk.open(configured(tmp_path), process="console-0")
        try:
            async with browser(desk) as client:
                assert (await client.post("/login/link", data={}, headers={"Sec-Fetch-Site": "cross-site"})).status_code == 403
                described = await client.get("/login/saml/metadata")
                assert f'Location="{URL}/login/saml/acs"' in described.text
                assert (await client.get("/login/saml/done", params={"state": "none"})).status_code == 401
        finally:
            await desk.close()

    asyncio.run(run())


def test_metadata_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    config = configured(tmp_path)
    (tmp_path / "idp.xml").write_text("<x/>")
    with pytest.raises(Misconfigured, match=r"console\.saml\.metadata: .*idp\.xml: "):
        asyncio.run(Desk.open(config, process="console-0"))


def test_the_name_is_no_issuers(tmp_path: Path) -> None:
    config = configured(tmp_path)
    text = config.path.read_text().replace("name: corp,", "name: local,")
    config.path.write_text(text)
    with pytest.raises(Misconfigured, match="people of both would be one"):
        load_config(config.path)
