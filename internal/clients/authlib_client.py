"""Authlib against the quickstart at the URL of the first argument."""
import sys

from authlib.integrations.base_client.errors import OAuthError
from authlib.integrations.requests_client import OAuth2Session

url = sys.argv[1]
for client_id, secret, method in (
    ("backend", "backend-secret", "client_secret_basic"),
    ("backend", "backend-secret", "client_secret_post"),
    ("webapp", None, "none"),
):
    session = OAuth2Session(client_id, secret, scope="me items", token_endpoint_auth_method=method)
    try:
        session.fetch_token(url + "/token", username="johndoe", password="wrong")
        raise AssertionError("a wrong password logged in")
    except OAuthError as error:
        assert error.error == "invalid_grant", error
    first = dict(session.fetch_token(url + "/token", username="johndoe", password="secret"))
    assert session.get(url + "/users/me/items").status_code == 200
    again = session.refresh_token(url + "/token", refresh_token=first["refresh_token"])
    assert again["refresh_token"] != first["refresh_token"]
    assert session.get(url + "/users/me").json()["username"] == "johndoe"
    assert session.revoke_token(url + "/revoke", token=again["refresh_token"]).status_code == 200
    assert session.get(url + "/users/me").status_code == 401
print("passed")
