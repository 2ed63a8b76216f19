"""pg_hba.conf: which line decides about a client."""

from pathlib import Path

import pytest
from pm_server import Cluster

from pglife_impl.net import hba

LINES = """
# TYPE  DATABASE   USER     ADDRESS        METHOD
local   all        alice                   trust
local   sameuser   all                     reject
local   "d b",d2   bob                     trust
host    all        all      10.1.0.0/16    reject
host    all        all      10.0.0.0 255.0.0.0 trust
hostssl all        all      all            trust
host    d          all      ::1/128        trust
"""

CASES = [
    ("[local]", "alice", "x", 3),
    ("[local]", "bob", "bob", 4),
    ("[local]", "bob", "d b", 5),
    ("[local]", "bob", "d", None),
    ("10.1.2.3", "bob", "d", 6),
    ("10.2.2.3", "bob", "d", 7),
    ("11.2.2.3", "bob", "d", None),
    ("::1", "bob", "d", 9),
    ("::1", "bob", "e", None),
]


@pytest.mark.parametrize(("host", "user", "database", "number"), CASES)
def test_the_first_matching_line_decides(
    tmp_path: Path, host: str, user: str, database: str, number: int | None
) -> None:
    path = tmp_path / "hba"
    path.write_text(LINES)
    found = hba.first_match(hba.load(str(path)), host, user, database)
    assert (found.number if found else None) == number


BAD = [
    ("locale all all trust", "invalid connection type"),
    ("local all all", "end-of-line before authentication method"),
    ("local all all md5", 'authentication method "md5" is not supported'),
    ("# nothing", "contains no entries"),
    ('local "all all trust', "invalid quoting"),
]


@pytest.mark.parametrize(("text", "words"), BAD)
def test_an_invalid_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "hba"
    path.write_text(text + "\n")
    with pytest.raises(hba.HbaError, match=words):
        hba.load(str(path))


def test_a_client_without_a_line_is_refused(cluster: Cluster) -> None:
    (cluster.data / "pg_hba.conf").write_text("local nosuch all trust\n")
    cluster.start()
    report = cluster.connect().report()
    assert report["C"] == "28000"
    assert report["M"] == (
        'no pg_hba.conf entry for host "[local]", user "postgres", database "postgres",'
        " no encryption"
    )
    assert cluster.states() == ["STARTUP", "RUN"]
