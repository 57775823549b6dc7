"""Tokens of an OpenID provider: what is verified, what they allow, and what happens to the keys."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from headrace.settings import load_settings
from producers.gateway.access.tokens import open_tokens
from schemas.errors import ConfigError
from tests.integration.gateway.conftest import House, MakeHouse, embed

AUDIENCE = "headrace"


class Provider:
    """An issuer with keys, on loopback."""

    def __init__(self) -> None:
        self.keys: dict[str, Any] = {"first": rsa.generate_private_key(65537, 2048)}
        self.asked: list[str] = []
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                data = json.dumps(provider.page(self.path)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.issuer = f"http://127.0.0.1:{self._server.server_port}/realm"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def page(self, path: str) -> dict[str, Any]:
        if path == "/realm/.well-known/openid-configuration":
            return {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys"}
        return {"keys": [_public(id, key) for id, key in self.keys.items()]}

    def token(
        self, *, kid: str = "first", key: Any = None, alg: str = "RS256", **changes: Any
    ) -> str:
        claims = {
            "iss": self.issuer, "aud": AUDIENCE, "sub": "anna", "exp": time.time() + 60,
            "scope": "openid submit headrace:read", **changes,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        key = key if key is not None else self.keys.get(kid)
        return jwt.encode(claims, key, algorithm=alg, headers={"kid": kid})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _public(id: str, key: Any) -> dict[str, Any]:
    is_rsa = isinstance(key, rsa.RSAPrivateKey)
    kind: Any = jwt.algorithms.RSAAlgorithm if is_rsa else jwt.algorithms.ECAlgorithm
    found = kind.to_jwk(key.public_key(), as_dict=True)
    return {**found, "kid": id, "use": "sig", "alg": "RS256" if is_rsa else "ES256"}


@pytest.fixture
def provider() -> Iterator[Provider]:
    found = Provider()
    yield found
    found.close()


@pytest.fixture
def signed_on(make_house: MakeHouse, provider: Provider) -> House:
    return make_house(
        needs_keys=None, gateway_oidc_issuer=provider.issuer, gateway_oidc_audience=AUDIENCE
    )


def ask(house: House, token: str, path: str = "/v1/files") -> Any:
    return house.clients[""].get(path, headers={"Authorization": f"Bearer {token}"})


def test_a_token_has_its_scopes_and_a_person_keeps_what_is_theirs(
    signed_on: House, provider: Provider
) -> None:
    client = signed_on.clients[""]
    client.headers["Authorization"] = f"Bearer {provider.token()}"
    file = signed_on.upload(client, [embed("a")])
    assert [
        f["id"] for f in ask(signed_on, provider.token(exp=time.time() + 90)).json()["data"]
    ] == [file]
    assert ask(signed_on, provider.token(sub="ben")).json()["data"] == []
    assert ask(signed_on, provider.token(sub="ben"), f"/v1/files/{file}").status_code == 404
    assert ask(signed_on, provider.token(scope="openid")).status_code == 403
    assert ask(signed_on, provider.token(scope=None)).status_code == 403
    assert ask(signed_on, provider.token(scope=["headrace:read"])).status_code == 200


def forged(provider: Provider) -> dict[str, str]:
    public = provider.keys["first"].public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    hs256 = jwt.encode({}, "x" * 32, algorithm="HS256", headers={"kid": "first"}).split(".")[0]
    return {
        "wrong audience": provider.token(aud="another"),
        "no audience": provider.token(aud=None),
        "another issuer": provider.token(iss="https://elsewhere"),
        "expired": provider.token(exp=time.time() - 3600),
        "no expiry": provider.token(exp=None),
        "not yet": provider.token(nbf=time.time() + 3600),
        "no subject": provider.token(sub=None),
        "no algorithm": jwt.encode(
            {"iss": provider.issuer, "aud": AUDIENCE, "sub": "a", "exp": time.time() + 60},
            None, algorithm="none", headers={"kid": "first"},
        ),
        "the public key as a secret": f"{hs256}.{_hmac(hs256, provider, pem)}",
        "unknown key id": provider.token(kid="new", key=provider.keys["first"]),
        "another's signature": provider.token(key=rsa.generate_private_key(65537, 2048)),
        "another algorithm of its key": provider.token(alg="PS256"),
        "claims that were changed": _changed(provider.token()),
        "scopes that are a number": provider.token(scope=7),
        "prefixes that are empty": provider.token(headrace_prefixes=[]),
        "no token": "a.b.c",
        "too long": provider.token(more="x" * 20_000),
    }  # fmt: skip


def _hmac(head: str, provider: Provider, secret: bytes) -> str:
    import hashlib
    import hmac

    claims = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "anna", "exp": time.time() + 60}
    body = jwt.utils.base64url_encode(json.dumps(claims).encode()).decode()
    made = hmac.new(secret, f"{head}.{body}".encode(), hashlib.sha256).digest()
    return f"{body}.{jwt.utils.base64url_encode(made).decode()}"


def _changed(token: str) -> str:
    head, body, signature = token.split(".")
    claims = json.loads(jwt.utils.base64url_decode(body)) | {"scope": "admin"}
    more = jwt.utils.base64url_encode(json.dumps(claims).encode()).decode()
    return f"{head}.{more}.{signature}"


def test_what_the_provider_has_not_signed_for_us_is_401(
    signed_on: House, provider: Provider
) -> None:
    for name, token in forged(provider).items():
        answer = ask(signed_on, token)
        assert answer.status_code == 401, name
        assert answer.json()["error"]["code"] == "invalid_token", name
        assert 'error="invalid_token"' in answer.headers["www-authenticate"], name
    assert provider.asked.count("/realm/keys") == 1, "invented key ids ask the provider once"


def test_a_key_that_is_new_is_fetched_and_an_elliptic_one_is_taken(
    signed_on: House, provider: Provider
) -> None:
    assert ask(signed_on, provider.token()).status_code == 200
    provider.keys = {"second": ec.generate_private_key(ec.SECP256R1())}
    signed_on.gateway.tokens._keys._tried -= 11  # type: ignore[union-attr]
    assert ask(signed_on, provider.token(kid="second", alg="ES256")).status_code == 200
    assert provider.asked.count("/realm/keys") == 2


def test_keys_are_kept_while_the_provider_is_away_and_none_is_503(
    signed_on: House, provider: Provider
) -> None:
    provider.close()
    answer = ask(signed_on, provider.token())
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "oidc_unreachable")
    assert answer.headers["retry-after"]


def test_prefixes_and_quota_hold_as_those_of_a_key_do(
    make_house: MakeHouse, provider: Provider
) -> None:
    house = make_house(
        needs_keys=None, gateway_oidc_issuer=provider.issuer, gateway_oidc_audience=AUDIENCE,
        gateway_oidc_scopes="submit,read", gateway_oidc_quota_tokens=1,
    )  # fmt: skip
    allowed = provider.token(scope=None, headrace_prefixes=f"{house.folder}/mine/")
    client = house.clients[""]
    client.headers["Authorization"] = f"Bearer {allowed}"
    body = {"input": f"{house.folder}/else", "output": f"{house.folder}/mine/out", "model": "tiny"}
    assert client.post("/v1/jobs", json=body).status_code == 403
    assert house.create(client, [embed("a")]).status_code == 429


@pytest.mark.parametrize(
    "flags",
    [
        {"gateway_oidc_issuer": "https://id.example.com"},
        {"gateway_oidc_issuer": "http://id.example.com", "gateway_oidc_audience": "a"},
        {"gateway_oidc_issuer": "https://id.example.com", "gateway_oidc_audience": "a",
         "gateway_oidc_jwks_url": "file:///etc/passwd"},
    ],
)  # fmt: skip
def test_settings_that_would_trust_anybody_are_refused(flags: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        open_tokens(load_settings(**flags))
