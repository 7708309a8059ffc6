"""Signing in by SAML 2.0: web browser SSO, the request by redirect, the response by POST (SAML Profiles section 4.1).

python3-saml (the extra `saml`) reads and verifies; what it leaves to its caller is required here: that a response answers a request of
ours, in the browser that began it, once, for this console as its audience, about somebody who is called the same each time.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from hopgate.config import SamlConfig
from hopgate.console.flows import Flow, Flows, is_subject
from hopgate.console.pages.signin import FLOW_SECONDS
from hopgate.console.place import ACS, Place
from hopgate.errors import Denied, Misconfigured, Unauthenticated
from rules.model import Principal

METADATA: Final = "/login/saml/metadata"
MAX_GROUPS: Final = 1000
_POST: Final = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST"
_REDIRECT: Final = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-Redirect"
_UNSPECIFIED: Final = "urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified"
_TRANSIENT: Final = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
_CONFIRMATION: Final = "/saml:Subject/saml:SubjectConfirmation/saml:SubjectConfirmationData"


@dataclass(slots=True, kw_only=True)
class AuthnFlow(Flow):
    """`proved` is set by the response."""

    request: str  # the AuthnRequest's ID
    proved: Principal | None = None


class Saml:
    """The console as a service provider of one identity provider."""

    def __init__(self, settings: SamlConfig, place: Place) -> None:
        """Raises Misconfigured when the extra is missing or the provider's metadata cannot be used."""
        self.settings = settings
        self._place = place
        self._flows: Flows[AuthnFlow] = Flows()
        try:
            from onelogin.saml2.authn_request import OneLogin_Saml2_Authn_Request
            from onelogin.saml2.response import OneLogin_Saml2_Response
            from onelogin.saml2.settings import OneLogin_Saml2_Settings
        except ImportError as error:
            raise Misconfigured(f"console.saml: needs the extra: pip install 'hopgate[saml]' ({error})") from None
        self._request, self._response = OneLogin_Saml2_Authn_Request, OneLogin_Saml2_Response
        try:
            self._library = OneLogin_Saml2_Settings(self._described())
        except Exception as error:
            raise Misconfigured(f"console.saml.metadata: {settings.metadata}: {error}") from None

    @property
    def entity_id(self) -> str:
        """What the provider calls this console."""
        return self.settings.entity_id or self._place.url + METADATA

    def metadata(self) -> bytes:
        """Of this console, for the provider."""
        found = self._library.get_sp_metadata()
        return found if isinstance(found, bytes) else str(found).encode()

    def begin(self, then: str) -> tuple[str, str]:
        """Where to send the browser, and what its cookie must hold when it comes back."""
        request, state = self._request(self._library), secrets.token_urlsafe(16)
        flow = AuthnFlow(then=then, request=request.get_id())
        from onelogin.saml2.utils import OneLogin_Saml2_Utils

        query = {"SAMLRequest": request.get_request(), "RelayState": state}
        url: str = OneLogin_Saml2_Utils.redirect(self._library.get_idp_sso_url(), query, request_data=self._here())
        self._flows.keep(state, flow)
        return url, flow.binding

    def receive(self, state: str, message: str) -> None:
        """The provider's response to what `state` began. It comes without our cookies, so it signs nobody in: `finish` does.

        Raises Unauthenticated, Denied.
        """
        flow = self._flows.find(state)
        if flow is None or flow.proved is not None:
            raise Unauthenticated("this sign-in was not begun here, is over, or too old: sign in again")
        self._flows.drop(state)  # one response for each, whatever it says
        try:
            response = self._response(self._library, message)
            valid = response.is_valid(self._here(), flow.request)
            trouble = "" if valid else str(response.get_error() or "it is not valid")
            trouble = trouble or self._missing(response, flow)
            if not trouble:
                flow.proved = self._principal(response)
                self._flows.keep(state, flow)
                return
        except Denied:
            raise
        except Exception as error:  # what XML libraries raise at made-up documents is of every type
            trouble = f"it cannot be read ({type(error).__name__})"
        raise Unauthenticated(f"the provider's response is refused: {trouble[:300]}")

    def finish(self, state: str, binding: str) -> tuple[Principal, str, str]:
        """The person, what he is called, and where he wanted to go. Raises Unauthenticated."""
        flow = self._flows.take(state, binding)
        if flow.proved is None:
            raise Unauthenticated("the provider has not answered this sign-in: sign in again")
        return flow.proved, flow.proved.subject[:100], flow.then

    def _missing(self, response: Any, flow: AuthnFlow) -> str:
        """What python3-saml lets a response leave out, and we do not; "" when all is there."""
        if self.entity_id not in response.get_audiences():
            return "it names no audience"
        # of the assertion, which is signed; the attribute of the same name on the response around it may not be
        answered = [node.get("InResponseTo") for node in response._query_assertion(_CONFIRMATION)]
        if flow.request not in answered:
            return "it does not answer the request of this sign-in"
        return ""

    def _principal(self, response: Any) -> Principal:
        attributes: dict[str, list[Any]] = response.get_attributes()
        if self.settings.subject:
            named = attributes.get(self.settings.subject, [])
            subject = named[0] if len(named) == 1 else None
        else:
            if response.get_nameid_format() == _TRANSIENT:
                raise Denied("the provider names people anew each time (a transient NameID): set console.saml.subject to an attribute")
            subject = response.get_nameid()
        if not is_subject(subject):
            raise Denied(f"the response has no usable {self.settings.subject or 'NameID'}")
        groups = [group for group in attributes.get(self.settings.groups, []) if isinstance(group, str) and group]
        if len(groups) > MAX_GROUPS:
            raise Denied(f"the response names more than {MAX_GROUPS} groups")
        return Principal(self.settings.name, subject, frozenset(groups), expires_at=time.time() + FLOW_SECONDS)

    def _described(self) -> dict[str, Any]:
        """Both sides, as python3-saml wants them."""
        from onelogin.saml2.idp_metadata_parser import OneLogin_Saml2_IdPMetadataParser

        found = OneLogin_Saml2_IdPMetadataParser.parse(self.settings.metadata.read_bytes(), required_sso_binding=_REDIRECT)
        if "entityId" not in found.get("idp", {}) or "singleSignOnService" not in found["idp"]:
            raise ValueError("names no identity provider with single sign-on by HTTP-Redirect")
        return {
            "strict": True,
            "debug": False,
            "idp": found["idp"],
            "sp": {
                "entityId": self.entity_id,
                "assertionConsumerService": {"url": self._place.url + ACS, "binding": _POST},
                "NameIDFormat": _UNSPECIFIED,
            },
            "security": {
                "wantAssertionsSigned": True,
                "wantAttributeStatement": False,
                "rejectDeprecatedAlgorithm": True,  # SHA-1
                "requestedAuthnContext": False,  # the provider knows how it wants people to sign in
            },
        }

    def _here(self) -> dict[str, Any]:
        """The request as python3-saml wants it; the address is the configured one, whatever a Host header says."""
        url = urlsplit(self._place.url)
        return {
            "https": "on" if url.scheme == "https" else "off",
            "http_host": url.netloc,
            "script_name": ACS,
            "get_data": {},
            "post_data": {},
        }
