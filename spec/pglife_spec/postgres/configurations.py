"""Named configurations: what explorers fix and proofs leave open. Begin with CONFIGS."""

from collections.abc import Iterator
from dataclasses import replace

from pglife_spec.lang.expr import Value
from pglife_spec.lang.machine import Config
from pglife_spec.postgres.words import ArchiveMode
from pglife_spec.postgres.words.recovery import Target
from pglife_spec.postgres.words.releases import VERIFIED, Feature, release_of
from pglife_spec.postgres.words.repairs import REPAIRS
from pglife_spec.postgres.words.workers import WorkerStart


def config(
    name: str,
    version: int,
    purpose: str = "",
    *,
    repaired: bool = False,
    bounds: dict[str, int] | None = None,
    **params: Value,
) -> Config:
    """A configuration, small unless the arguments say otherwise.

    Args:
        name: its name in reports.
        version: the release, by its major version.
        purpose: what it is for.
        repaired: whether all repairs are on.
        bounds: the most children of each counted kind.
        params: parameters that differ from the small default.
    """
    values: dict[str, Value] = {
        "version": version,
        "restart_after_crash": True,
        "logging_collector": False,
        "autovacuum": False,
        "logical_launcher": False,
        "hot_standby": True,
        "archive_mode": ArchiveMode.OFF,
        "wal_senders": False,
        "summarize_wal": False,
        "autovac_workers": 0,
        "wraparound": False,
        "worker_start": WorkerStart.NEVER,
        "worker_restarts": True,
        "io_workers": int(Feature.IO_WORKERS in release_of(version).features),
        "pool_changes": False,
        "child_slots": 1,
        "fork_faults": False,
        "reloads": False,
        "stray_signals": False,
        "writers": True,
        "standby": False,
        "recovery_target": Target.NONE,
        "streaming": False,
        "sync_slots": False,
        "any_start": False,
    }
    values |= {param.name: repaired for param in REPAIRS}
    values |= params
    # One backend more than there are slots: that there is never one more is claimed.
    slots = values["child_slots"]
    assert isinstance(slots, int)
    limits = {"backend": slots + 1, "dead_end": 1, "io_worker": 0, "walsender": 0}
    return fitting(Config(name, values, limits | (bounds or {}), purpose))


def fitting(config: Config) -> Config:
    """The configuration with the bounds that its parameters need: all io workers may be born, and
    one more, so that it is claimed and not assumed that there never is; and all autovacuum
    workers."""
    names = ("io_workers", "autovac_workers", "child_slots")
    numbers = [config.params[name] for name in names]
    io_workers, autovac_workers, slots = (int(n) for n in numbers if isinstance(n, int))
    shared = 0 if Feature.SLOT_POOLS in release_of(config.params["version"]).features else slots
    bounds = {
        "io_worker": max(io_workers + 1, config.bounds["io_worker"]),
        "autovac_worker": max(autovac_workers, shared) if autovac_workers else 0,
        "autovac_entries": autovac_workers,
        "io_workers.in_file": io_workers,
        "io_workers.wanted": io_workers,
    }
    return replace(config, bounds={**config.bounds, **bounds})


def _configurations(version: int) -> Iterator[Config]:
    tiny = "one session, no refused clients: every state in about a minute"
    small = "one session, one refused client, one io worker: claims that tiny has no case for"
    repaired = "; all repairs are on, so that every property holds"
    yield config(f"tiny-{version}", version, tiny, io_workers=0, bounds={"dead_end": 0})
    yield config(
        f"tiny-{version}-repaired",
        version,
        tiny + repaired,
        repaired=True,
        io_workers=0,
        bounds={"dead_end": 0},
    )
    yield config(
        f"doors-{version}",
        version,
        "no session, one refused client: what a dead-end child can delay",
        io_workers=0,
        bounds={"backend": 0},
    )
    yield config(f"small-{version}", version, small)
    # In 15 a client that is refused after the SIGKILL round and stays silent is waited for (F06).
    yield config(
        f"small-{version}-repaired", version, f"{small}; all repairs are on", repaired=True
    )
    yield config(
        f"no-restart-{version}",
        version,
        "as small, with restart_after_crash off: a crash ends the server",
        restart_after_crash=False,
    )
    yield config(
        f"forks-fail-{version}",
        version,
        "no clients, but fork() may fail at any moment",
        fork_faults=True,
        io_workers=0,
        bounds={"backend": 0, "dead_end": 0},
    )
    yield from _families(version)
    yield config(
        f"full-{version}",
        version,
        "every kind of child, two sessions: too large to visit every state, for random walks",
        logging_collector=True,
        autovacuum=True,
        autovac_workers=1,
        logical_launcher=True,
        archive_mode=ArchiveMode.ALWAYS,
        wal_senders=True,
        summarize_wal=Feature.WAL_SUMMARIZER in release_of(version).features,
        child_slots=2,
        bounds={"dead_end": 1, "walsender": 1},
    )


def _families(version: int) -> Iterator[Config]:
    """One configuration for each family of children that the others leave out."""
    alone = {"backend": 0, "dead_end": 0}
    yield config(
        f"archiver-{version}",
        version,
        "an archiver that also runs in recovery, no clients; all repairs are on",
        repaired=True,
        archive_mode=ArchiveMode.ALWAYS,
        io_workers=0,
        stray_signals=True,
        bounds=alone,
    )
    yield config(
        f"walsender-{version}",
        version,
        "one session, which may become a walsender, and an archiver; all repairs are on",
        repaired=True,
        archive_mode=ArchiveMode.ON,
        wal_senders=True,
        io_workers=0,
        bounds={"dead_end": 0, "walsender": 1},
    )
    yield from _workers(version)
    if Feature.WAL_SUMMARIZER in release_of(version).features:
        yield config(
            f"summarizer-{version}",
            version,
            "a WAL summarizer, no clients; all repairs are on",
            repaired=True,
            summarize_wal=True,
            io_workers=0,
            bounds=alone,
        )


def _workers(version: int) -> Iterator[Config]:
    alone = {"backend": 0, "dead_end": 0}
    if Feature.IO_WORKERS in release_of(version).features:
        yield config(
            f"io-pool-{version}",
            version,
            "two io workers, or one after a reload, no clients, no writers; all repairs are on",
            repaired=True,
            io_workers=2,
            pool_changes=True,
            reloads=True,
            writers=False,
            restart_after_crash=False,
            bounds=alone,
        )
    yield config(
        f"autovacuum-{version}",
        version,
        "one autovacuum worker, no clients, no writers; all repairs are on",
        repaired=True,
        autovacuum=True,
        autovac_workers=1,
        writers=False,
        io_workers=0,
        bounds=alone,
    )
    yield config(
        f"emergency-{version}",
        version,
        "autovacuum is off and a database near wraparound, two workers; all repairs are on",
        repaired=True,
        restart_after_crash=False,
        wraparound=True,
        writers=False,
        autovac_workers=2,
        child_slots=2,
        io_workers=0,
        bounds=alone,
    )
    yield config(
        f"workers-{version}",
        version,
        "a background worker that starts with the postmaster, no clients; all repairs are on",
        repaired=True,
        worker_start=WorkerStart.POSTMASTER_START,
        io_workers=0,
        bounds=alone,
    )


def _standbys(version: int) -> Iterator[Config]:
    no_clients = {"backend": 0, "dead_end": 0}
    yield config(
        f"standby-{version}",
        version,
        "a hot standby that reads an archive, one session",
        io_workers=0,
        bounds={"dead_end": 0},
        standby=True,
    )
    yield config(
        f"standby-{version}-repaired",
        version,
        "the same; all repairs are on, so that every property holds",
        repaired=True,
        io_workers=0,
        bounds={"dead_end": 0},
        standby=True,
    )
    yield config(
        f"warm-standby-{version}",
        version,
        "a standby with hot_standby off, from any state of the control file",
        io_workers=0,
        bounds=no_clients,
        standby=True,
        hot_standby=False,
        any_start=True,
    )
    yield config(
        f"streaming-{version}",
        version,
        "a hot standby with a walreceiver; no session, no background writer, no walwriter",
        io_workers=0,
        bounds=no_clients,
        standby=True,
        streaming=True,
        writers=False,
    )
    yield config(
        f"recovery-target-{version}",
        version,
        "archive recovery that shuts down at its target, from any state of the control file",
        io_workers=0,
        bounds={"dead_end": 0},
        recovery_target=Target.SHUTDOWN,
        any_start=True,
    )
    if Feature.SLOTSYNC_WORKER in release_of(version).features:
        yield config(
            f"slot-sync-{version}",
            version,
            "a hot standby with a slotsync worker, one session, no background writer, no walwriter",
            io_workers=0,
            bounds={"dead_end": 0},
            standby=True,
            sync_slots=True,
            writers=False,
        )


CONFIGS = {
    made.name: made
    for release in VERIFIED
    for family in (_configurations, _standbys)
    for made in family(release.number)
}
