"""Kinds by title: each title that PostgreSQL writes; names in the log."""

import pytest

from pglife_conformance.observation.kinds import FACTS, Kind, as_kind, kind_of_title

TITLES = [
    ("postgres: startup ", Kind.STARTUP),
    ("postgres: startup recovering 000000010000000000000001", Kind.STARTUP),
    ("postgres: checkpointer ", Kind.CHECKPOINTER),
    ("postgres: checkpointer performing shutdown checkpoint", Kind.CHECKPOINTER),
    ("postgres: background writer ", Kind.BACKGROUND_WRITER),
    ("postgres: walwriter ", Kind.WALWRITER),
    ("postgres: autovacuum launcher ", Kind.AUTOVACUUM_LAUNCHER),
    ("postgres: autovacuum worker postgres", Kind.AUTOVACUUM_WORKER),
    ("postgres: archiver last was 000000010000000000000001", Kind.ARCHIVER),
    ("postgres: walreceiver streaming 0/3000000", Kind.WALRECEIVER),
    ("postgres: walsummarizer ", Kind.WALSUMMARIZER),
    ("postgres: slotsync worker ", Kind.SLOTSYNC_WORKER),
    ("postgres: io worker 12", Kind.IO_WORKER),
    ("postgres: logger ", Kind.LOGGER),
    ("postgres: logical replication launcher ", Kind.LOGICAL_REPLICATION_LAUNCHER),
    (
        "postgres: logical replication apply worker for subscription 16389 ",
        Kind.LOGICAL_REPLICATION_WORKER,
    ),
    ("postgres: parallel worker for PID 123 ", Kind.PARALLEL_WORKER),
    ("postgres: autoprewarm leader ", Kind.AUTOPREWARM_LEADER),
    ("postgres: autoprewarm worker ", Kind.AUTOPREWARM_WORKER),
    ("postgres: walsender postgres [local] idle", Kind.WALSENDER),
    ("postgres: postgres postgres [local] idle in transaction", Kind.CLIENT_BACKEND),
    ("/usr/bin/postgres -D /data", Kind.UNKNOWN),
    ("", Kind.UNKNOWN),
]


@pytest.mark.parametrize(("title", "kind"), TITLES)
def test_kind_of_title(title: str, kind: Kind) -> None:
    assert kind_of_title(title) is kind


def test_cluster_name_stands_between() -> None:
    assert kind_of_title("postgres: main: walwriter ", "main") is Kind.WALWRITER


def test_every_kind_has_a_title_but_those_that_only_a_client_can_tell() -> None:
    assert {kind for _, kind in TITLES} == set(Kind) - {Kind.UNAUTHENTICATED, Kind.DEAD_END}


def test_every_kind_has_a_row() -> None:
    assert set(FACTS) == set(Kind)


def test_no_two_kinds_are_one_kind_of_the_model() -> None:
    models = [kind.model for kind in Kind if kind.model is not None]
    assert len(models) == len(set(models)) >= 9


@pytest.mark.parametrize(
    ("kind", "now", "before_18"),
    [
        (Kind.WALWRITER, "WAL writer process", "WAL writer process"),
        (Kind.CLIENT_BACKEND, "client backend", "server process"),
        (Kind.DEAD_END, "dead-end client backend", "server process"),
        (Kind.AUTOVACUUM_WORKER, "autovacuum worker", "server process"),
        (
            Kind.PARALLEL_WORKER,
            'background worker "parallel worker"',
            'background worker "parallel worker"',
        ),
    ],
)
def test_name_in_log(kind: Kind, now: str, before_18: str) -> None:
    assert (kind.name_in_log(18), kind.name_in_log(17)) == (now, before_18)


def test_a_kind_is_known_by_its_name() -> None:
    assert as_kind("background writer") is Kind.BACKGROUND_WRITER
    with pytest.raises(ValueError, match="bgwriter"):
        as_kind("bgwriter")
