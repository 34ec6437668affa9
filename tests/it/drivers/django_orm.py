"""Django as applications use it: migrations, transactions, its cursors WITH HOLD, roles and isolation levels of its options,
from several threads with connections of their own."""

import sys
import threading
from urllib.parse import urlsplit

import django
from django.conf import settings

dsn = urlsplit(sys.argv[1])
DATABASE = {
    "ENGINE": "django.db.backends.postgresql",
    "NAME": dsn.path.lstrip("/"),
    "USER": dsn.username,
    "PASSWORD": dsn.password,
    "HOST": dsn.hostname,
    "PORT": dsn.port,
    "CONN_MAX_AGE": None,
}
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"],
    DATABASES={
        "default": DATABASE,
        "strict": {**DATABASE, "OPTIONS": {"isolation_level": 4}},
        "elsewhere": {**DATABASE, "TIME_ZONE": "Asia/Tokyo", "OPTIONS": {"options": "-c statement_timeout=54321"}},
        "prepared": {**DATABASE, "OPTIONS": {"server_side_binding": True}},
    },
    USE_TZ=True,
    TIME_ZONE="Europe/Vienna",
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
)
django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import IntegrityError, connections, models, transaction  # noqa: E402
from django.db.models import F  # noqa: E402


class Entry(models.Model):
    name = models.CharField(max_length=40)
    number = models.IntegerField(default=0)
    details = models.JSONField(default=dict)
    at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "entries"


def shown(alias, setting):
    with connections[alias].cursor() as cursor:
        cursor.execute(f"SHOW {setting}")
        return cursor.fetchone()[0]


def sessions():
    """Each connection has what it was set up with, whoever else had the server."""
    for _ in range(3):
        assert shown("default", "timezone") == "UTC"
        with transaction.atomic(using="strict"):
            assert shown("strict", "transaction_isolation") == "serializable"
        assert shown("elsewhere", "timezone") == "Asia/Tokyo"
        assert shown("elsewhere", "statement_timeout") == "54321ms"
        assert shown("default", "transaction_isolation") == "read committed"
        assert shown("prepared", "statement_timeout") == "0"


def works(me):
    for alias in ("default", "elsewhere", "prepared"):
        entries = Entry.objects.using(alias).filter(name=me)
        entries.all().delete()
        Entry.objects.using(alias).bulk_create([Entry(name=me, number=n, details={"n": n}) for n in range(3000)])
        # Outside of a transaction these are cursors WITH HOLD, and two at once.
        first, second = (entries.order_by("number").iterator(chunk_size=100) for _ in range(2))
        assert all(one.number == other.number for one, other in zip(first, second, strict=True))
        abandoned = entries.iterator(chunk_size=10)
        assert next(abandoned).name == me
        del abandoned
        assert entries.get(details__n=17).number == 17
        with transaction.atomic(using=alias):
            entry = entries.select_for_update().get(number=5)
            entry.number = F("number") + 10_000
            entry.save()
            try:
                with transaction.atomic(using=alias):
                    entries.filter(number__lt=100).delete()
                    raise ZeroDivisionError
            except ZeroDivisionError:
                pass
        assert entries.get(pk=entry.pk).number == 10_005 and entries.count() == 3000


def users():
    with transaction.atomic():
        group = Group.objects.create(name="readers")
        user = User.objects.create_user("alice", password="secret")
        user.groups.add(group)
    assert User.objects.select_related().get(groups__name="readers").check_password("secret")
    try:
        User.objects.create_user("alice")
        raise AssertionError("the name is taken")
    except IntegrityError:
        pass
    assert User.objects.count() == 1


def main():
    call_command("migrate", verbosity=0)
    with connections["default"].schema_editor() as editor:
        editor.create_model(Entry)
    users()
    sessions()
    failures = []

    def client(me):
        try:
            works(me)
            sessions()
        except BaseException as error:  # noqa: BLE001 (whatever it is, the test has failed)
            failures.append(f"{me}: {error!r}")
        finally:
            connections.close_all()

    threads = [threading.Thread(target=client, args=(f"client {n}",)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures
    call_command("flush", verbosity=0, interactive=False)
    call_command("migrate", "auth", "zero", verbosity=0)
    connections.close_all()
    print("Django: ok")


main()
