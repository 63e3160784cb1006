"""Verifies access tokens by libraries of Python, in the form of verify.mjs."""
import json
import sys
import jwt
import jose.jwt


def read(name):
    return open(f"{sys.argv[1]}/{name}").read().strip()


def line(library, rule, verify):
    try:
        verify()
        answer = "yes"
    except Exception:
        answer = "no"
    print(library, rule, answer, sep="\t")


for alg in ("EdDSA", "ES256", "RS256"):
    token, pem = read(alg + ".token"), read(alg + ".pem")
    key = jwt.PyJWKSet.from_dict(json.loads(read(alg + ".jwks"))).keys[0].key
    line("PyJWT", alg, lambda: jwt.decode(token, pem, algorithms=[alg], audience="api", issuer="https://api.example.com"))
    line("PyJWT", alg, lambda: jwt.decode(token, key, algorithms=[alg], audience="api", issuer="https://api.example.com"))
    line("python-jose", alg, lambda: jose.jwt.decode(token, pem, algorithms=[alg], audience="api", issuer="https://api.example.com"))
token, pem = read("ES256.token"), read("ES256.pem")
for library, decode in (("PyJWT", jwt.decode), ("python-jose", jose.jwt.decode)):
    line(library, "without aud", lambda: decode(token, pem, algorithms=["ES256"]))
    line(library, "other aud", lambda: decode(token, pem, algorithms=["ES256"], audience="other"))
    line(library, "expired", lambda: decode(read("expired.token"), pem, algorithms=["ES256"], audience="api"))
