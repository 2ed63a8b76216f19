"""Roles and databases, kept in global/pglife_catalog.json.

Begin with Catalog. The file is replaced by rename under a file lock.
Source: pg_authid, pg_database; rules CN-35..53.
"""

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pglife_impl.base.record import Record

FIRST_OID = 16384
BOOTSTRAP_OID = 10


class RoleDef(Record):
    """One role."""

    oid: int
    name: str
    superuser: bool = False
    login: bool = False
    replication: bool = False
    connection_limit: int = -1
    member_of: frozenset[str] = frozenset()


class DatabaseDef(Record):
    """One database."""

    oid: int
    name: str
    owner: str
    allow_connections: bool = True
    connection_limit: int = -1
    is_template: bool = False


def has_privileges_of(roles: Mapping[str, RoleDef], member: str, role: str) -> bool:
    """Return whether `member` is `role`, or a direct or indirect member of it."""
    seen: set[str] = set()
    to_visit = [member]
    while to_visit:
        name = to_visit.pop()
        if name == role:
            return True
        if name not in seen and name in roles:
            seen.add(name)
            to_visit += roles[name].member_of
    return False


class Catalog:
    """Roles and databases as of the last refresh()."""

    def __init__(self, data_directory: str) -> None:
        self.path = os.path.join(data_directory, "global", "pglife_catalog.json")
        self.roles: dict[str, RoleDef] = {}
        self.databases: dict[str, DatabaseDef] = {}
        self._next_oid = FIRST_OID
        self._seen: tuple[int, int] | None = None

    def refresh(self) -> None:
        """Read the file again if it has been replaced."""
        status = os.stat(self.path)
        seen = (status.st_ino, status.st_mtime_ns)
        if seen == self._seen:
            return
        with open(self.path, encoding="utf-8") as file:
            content = json.load(file)
        self._seen = seen
        self._next_oid = content["next_oid"]
        self.roles = {
            r["name"]: RoleDef(**{**r, "member_of": frozenset(r["member_of"])})
            for r in content["roles"]
        }
        self.databases = {d["name"]: DatabaseDef(**d) for d in content["databases"]}

    def next_oid(self) -> int:
        """Return a new oid, unique in this cluster."""
        with self._changing():
            self._next_oid += 1
            return self._next_oid - 1

    def put_role(self, role: RoleDef) -> None:
        """Add or replace a role."""
        with self._changing():
            self.roles[role.name] = role

    def drop_role(self, name: str) -> None:
        """Remove a role."""
        with self._changing():
            self.roles.pop(name, None)

    def put_database(self, database: DatabaseDef) -> None:
        """Add or replace a database."""
        with self._changing():
            self.databases[database.name] = database

    def drop_database(self, name: str) -> None:
        """Remove a database."""
        with self._changing():
            self.databases.pop(name, None)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Read, change and write under the file lock; the kernel frees it if the process dies."""
        lock = os.open(self.path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if os.path.exists(self.path):
                self.refresh()
            yield
            self._write()
        finally:
            os.close(lock)

    def _write(self) -> None:
        content = {
            "next_oid": self._next_oid,
            "roles": [
                {**r.as_dict(), "member_of": sorted(r.member_of)} for r in self.roles.values()
            ],
            "databases": [d.as_dict() for d in self.databases.values()],
        }
        temporary = f"{self.path}.{os.getpid()}"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(content, file, indent=1)
        os.rename(temporary, self.path)
        self._seen = None

    def bootstrap(self, superuser: str) -> None:
        """Create what initdb creates: a superuser, two predefined roles, three databases."""
        with self._changing():
            self.roles = {
                superuser: RoleDef(BOOTSTRAP_OID, superuser, True, True, True),
                "pg_use_reserved_connections": RoleDef(4550, "pg_use_reserved_connections"),
                "pg_signal_backend": RoleDef(4200, "pg_signal_backend"),
            }
            self.databases = {
                "template1": DatabaseDef(1, "template1", superuser, is_template=True),
                "template0": DatabaseDef(4, "template0", superuser, False, is_template=True),
                "postgres": DatabaseDef(5, "postgres", superuser),
            }
