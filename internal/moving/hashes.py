"""Prints hashes of Flask's extensions and of Dovecot, in the form of hashes.mjs."""
import subprocess
import sys
import flask_bcrypt
from flask import Flask
from flask_security import Security, hash_password
from flask_security.datastore import UserDatastore


def line(form, password, encoded):
    print(form, password.encode().hex(), encoded, sep="\t")


class NoUsers(UserDatastore):
    def __init__(self):
        pass


def flask_security(**config):
    app = Flask("moving")
    app.config.update(SECRET_KEY="x", SECURITY_PASSWORD_SALT="146585145368132386173505678016728509634", **config)
    Security().init_app(app, NoUsers(), register_blueprint=False)
    return app


for p in sys.argv[1:]:
    app = Flask("moving")
    app.config["BCRYPT_LOG_ROUNDS"] = 5
    line("direct", p, flask_bcrypt.Bcrypt(app).generate_password_hash(p).decode())
    app.config["BCRYPT_HANDLE_LONG_PASSWORDS"] = True
    line("flask-bcrypt-long", p, flask_bcrypt.Bcrypt(app).generate_password_hash(p).decode())

    with flask_security().app_context():
        line("flask-security", p, hash_password(p))
    with flask_security(SECURITY_PASSWORD_HASH="pbkdf2_sha512").app_context():
        line("flask-security-long", p, hash_password(p))
    with flask_security(SECURITY_PASSWORD_SINGLE_HASH=True).app_context():
        line("direct", p, hash_password(p))

    for scheme in ("BLF-CRYPT", "ARGON2ID", "ARGON2I", "CRYPT", "PBKDF2"):
        out = subprocess.run(["doveadm", "-c", "/dev/null", "pw", "-s", scheme, "-p", p], capture_output=True, text=True, check=True)
        line("dovecot-pbkdf2" if scheme == "PBKDF2" else "direct", p, out.stdout.strip())
