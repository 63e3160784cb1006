"""Makes a database with the tables of django.contrib.auth, and users."""
import sys
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}})
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command

call_command("migrate", verbosity=0)
User.objects.create_user("johndoe", password="secret")
User.objects.create_user("inactive", password="secret", is_active=False)
User.objects.create_user("nopassword")
