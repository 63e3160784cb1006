"""Makes foreign.txt: hashes of other programs, one a line: program, format,
password in hex, hash. ../../.ci/foreign installs the programs, and runs

    /usr/bin/python3 make.py NODE_FOLDER > foreign.txt

NODE_FOLDER is the folder npm, with its packages.

With --verify FILE it verifies the argon2id hashes of such lines instead, by
argon2-cffi, passlib and Django.
"""
import hashlib
import secrets
import subprocess
import sys
import django
from django.conf import settings
settings.configure(PASSWORD_HASHERS=[
    "django.contrib.auth.hashers." + name for name in (
        "PBKDF2PasswordHasher", "Argon2PasswordHasher",
        "BCryptPasswordHasher", "BCryptSHA256PasswordHasher")])
from argon2 import PasswordHasher
from django.contrib.auth.hashers import check_password, make_password
from passlib import hash as passlib
from werkzeug.security import generate_password_hash

if sys.argv[1:2] == ["--verify"]:
    lines = open(sys.argv[2]).read().splitlines()
    for _, _, password, encoded in (line.split("\t") for line in lines):
        password = bytes.fromhex(password).decode()
        assert PasswordHasher().verify(encoded, password), encoded  # raises on a mismatch
        assert passlib.argon2.verify(password, encoded), encoded
        assert check_password(password, "argon2" + encoded), encoded
        assert not passlib.argon2.verify(password + "x", encoded), encoded
    assert lines
    print(len(lines), "hashes of ours verified by argon2-cffi, passlib and Django")
    sys.exit()

passwords = ["secret", " pässwörd 😀 +%&", "x" * 72]

def line(program, scheme, password, encoded):
    print(program, scheme, password.encode().hex(), encoded, sep="\t")

for p in passwords:
    for scheme in ("pbkdf2_sha256", "argon2", "bcrypt", "bcrypt_sha256"):
        line("django-" + django.__version__, scheme, p, make_password(p, hasher=scheme))
    for ident in ("2a", "2b", "2y"):
        line("passlib", ident, p, passlib.bcrypt.using(rounds=5, ident=ident).hash(p))
    for kind in ("I", "ID"):
        line("passlib", "argon2" + kind.lower(), p, passlib.argon2.using(type=kind, memory_cost=1024, rounds=2, parallelism=2).hash(p))
    line("passlib", "scrypt", p, passlib.scrypt.using(rounds=10).hash(p))
    line("passlib", "pbkdf2-sha256", p, passlib.pbkdf2_sha256.using(rounds=1000).hash(p))
    line("passlib", "pbkdf2-sha512", p, passlib.pbkdf2_sha512.using(rounds=1000).hash(p))
    line("passlib", "bcrypt-sha256", p, passlib.bcrypt_sha256.using(rounds=5).hash(p))
    line("passlib", "bcrypt-sha256-v1", p, passlib.bcrypt_sha256.using(rounds=5, version=1, ident="2a").hash(p))
    for ident in ("P", "H"):
        line("passlib", "phpass", p, passlib.phpass.using(rounds=8, ident=ident).hash(p))
    for digest in ("sha1", "sha256", "sha512"):
        line("werkzeug", "werkzeug-pbkdf2", p, generate_password_hash(p, "pbkdf2:" + digest + ":1000"))
    # Debian's Werkzeug is older than its scrypt: hashlib, called as Werkzeug 2.3 does.
    salt = secrets.token_hex(8)
    digest = hashlib.scrypt(p.encode(), salt=salt.encode(), n=2**15, r=8, p=1, maxmem=132 * 2**15 * 8).hex()
    line("python-as-werkzeug-2.3", "werkzeug-scrypt", p, f"scrypt:32768:8:1${salt}${digest}")
    out = subprocess.run(["htpasswd", "-nbB", "-C", "5", "user", p], capture_output=True, text=True, check=True).stdout
    line("htpasswd", "2y", p, out.strip().split(":", 1)[1])
    for flag in ("-i", "-id"):
        out = subprocess.run(["argon2", "somesalt16bytes!", flag, "-m", "10", "-t", "2", "-p", "2", "-l", "32", "-e"],
                             input=p.encode(), capture_output=True, check=True).stdout
        line("argon2", "argon2" + flag[1:], p, out.decode().strip())
for command in (["node", sys.argv[1] + "/make.mjs"], ["php", "make.php"]):
    sys.stdout.flush()
    subprocess.run(command + passwords, check=True)
