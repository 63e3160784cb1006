"""requests-oauthlib against the quickstart at the URL of the first argument."""
import sys

from oauthlib.oauth2 import InvalidGrantError, LegacyApplicationClient
from requests_oauthlib import OAuth2Session

url = sys.argv[1]
for client_id, secret in (("backend", "backend-secret"), ("webapp", "")):
    session = OAuth2Session(client=LegacyApplicationClient(client_id=client_id, scope=["me", "items"]))
    login = dict(token_url=url + "/token", username="johndoe", client_id=client_id, client_secret=secret)
    try:
        session.fetch_token(password="wrong", **login)
        raise AssertionError("a wrong password logged in")
    except InvalidGrantError:
        pass
    first = session.fetch_token(password="secret", **login)
    assert session.get(url + "/users/me/items").status_code == 200
    again = session.refresh_token(url + "/token", auth=(client_id, secret))
    assert again["refresh_token"] != first["refresh_token"]
    assert session.get(url + "/users/me").json()["username"] == "johndoe"
    assert session.post(url + "/revoke", data={"token": again["refresh_token"]}, auth=(client_id, secret), withhold_token=True).status_code == 200
    assert session.get(url + "/users/me").status_code == 401
print("passed")
