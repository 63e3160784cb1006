"""Prints HS256 tokens of libraries of Python, in the form of sign.mjs."""
import datetime
import sys
import jwt
import jose.jwt

claims = {"sub": "johndoe", "exp": datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=5)}
print("PyJWT", jwt.encode(claims, sys.argv[1], algorithm="HS256"), sep="\t")
print("python-jose", jose.jwt.encode(claims, sys.argv[1], algorithm="HS256"), sep="\t")
