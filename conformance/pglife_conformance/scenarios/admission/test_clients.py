"""Cancel requests, the timeout for a startup packet, and the log lines of connections.

Source: backend_startup.c (until 16 postmaster.c): BackendInitialize(),
ProcessCancelRequestPacket(); procsignal.c: SendCancelRequest().
"""

import os
import re
import socket
import struct
import time
from collections.abc import Callable

import pytest

from pglife_conformance.base.ids import Pid
from pglife_conformance.base.needs import Need
from pglife_conformance.base.refusals import CANNOT_CONNECT_NOW, QUERY_CANCELED
from pglife_conformance.cluster.client import Special, startup_packet
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.cluster.packets import Exchange, cancel_request, exchange, packet
from pglife_conformance.cluster.session import ServerError, Session
from pglife_conformance.events import SMART
from pglife_conformance.expect.since import Since
from pglife_conformance.hold.parallel import run_in_parallel
from pglife_conformance.hold.pin import pin_smart_pending
from pglife_conformance.pytest.claims import claim, settings

INITIALIZE = "backend_startup.c: BackendInitialize()"
CANCEL = "backend_startup.c: ProcessCancelRequestPacket(); procsignal.c: SendCancelRequest()"
LOG_OPTIONS = "backend_startup.c: validate_log_connections_options()"
PACKETS = pytest.mark.unmonitored("the model has no packets but the startup packet")
NO_TIMEOUTS = pytest.mark.unmonitored("the model has no time limit for a client's packet")
LONGEST_KEY = 256
TIME_FOR_A_PACKET_S = 3.0
AT_MOST_S = 25.0
"""A client that is still connected then has another timeout: the default is one minute."""


def busy_session(cluster: Cluster) -> Session:
    """Open a session whose statement runs."""
    session = cluster.session()
    session.begin_query("select pg_sleep(60)")
    return session


def expect_logged_only(found: Exchange, message: str) -> None:
    """The child logs this message, sends no answer to the cancel request, and exits with 0."""
    assert (found.answer, found.said, found.exit_code) == (b"", [("LOG", message)], 0)


def expect_canceled(session: Session) -> None:
    """The statement ends with 57014, and the session continues."""
    with pytest.raises(ServerError) as problem:
        session.result()
    assert problem.value.sqlstate == QUERY_CANCELED
    assert session.query("select 1") == [("1",)]


@claim("CN-44 CN-45", source=CANCEL, needs=[Need.SQL_FUNCTIONS])
@PACKETS
def test_cancel_request_needs_pid_and_key(cluster: Cluster) -> None:
    """A cancel request works only with the key of its PID; any other is logged."""
    session, other = busy_session(cluster), cluster.session()
    pid, key = session.backend_pid, session.client.cancel_key
    wrong = bytes([key[0] ^ 1]) + key[1:], key[:-1] + bytes([key[-1] ^ 0x80])
    for bad in (*wrong, other.client.cancel_key):
        found = exchange(cluster, cancel_request(pid, bad))
        expect_logged_only(found, f"wrong key in cancel request for process {pid}")
    stranger = cluster.pid
    found = exchange(cluster, cancel_request(stranger, key))
    expect_logged_only(found, f"PID {stranger} in cancel request did not match any process")
    session.expect_silence(0.1)
    found = exchange(cluster, cancel_request(pid, key))
    assert (found.answer, found.said, found.exit_code) == (b"", [], 0)
    expect_canceled(session)


@claim("CN-44 CN-40", source=CANCEL, since=18)
@PACKETS
def test_length_of_a_cancel_request(cluster: Cluster) -> None:
    """A cancel key has 1 to 256 bytes; a shorter or longer one is only logged."""
    session = cluster.session()
    pid = session.backend_pid
    for short in (b"", b"\0\0\0"):
        found = exchange(cluster, packet(Special.CANCEL, short))
        expect_logged_only(found, "invalid length of cancel request packet")
    for size in (0, LONGEST_KEY + 1):
        found = exchange(cluster, cancel_request(pid, b"k" * size))
        expect_logged_only(found, "invalid length of cancel key in cancel request packet")
    for size in (1, 3, 5, 32, LONGEST_KEY):
        found = exchange(cluster, cancel_request(pid, b"k" * size))
        expect_logged_only(found, f"wrong key in cancel request for process {pid}")
    found = exchange(cluster, cancel_request(Pid(0), b"kkkk"))
    expect_logged_only(found, "invalid cancel request with PID 0")
    assert session.query("select 1") == [("1",)]


@claim("CN-44 CN-40", source="postmaster.c: processCancelRequest()", until=17)
@PACKETS
def test_length_of_a_cancel_request_until_17(cluster: Cluster) -> None:
    """Until 17 a cancel request has exactly 16 bytes."""
    for body in (b"", struct.pack("!i", 1), struct.pack("!i", 1) + b"kkk", bytes(9)):
        found = exchange(cluster, packet(Special.CANCEL, body))
        expect_logged_only(found, "invalid length of startup packet")


@claim("CN-13 CN-44", source=INITIALIZE, needs=[Need.SQL_FUNCTIONS])
def test_cancel_request_works_while_clients_are_refused(cluster: Cluster) -> None:
    """While a smart shutdown is pending, clients are refused and cancel requests work."""
    with pin_smart_pending(cluster) as session:
        session.begin_query("select pg_sleep(60)")
        assert cluster.refusal_of_new_client().sqlstate == CANNOT_CONNECT_NOW
        session.cancel()
        expect_canceled(session)
    cluster.expect_exit(code=0)


@claim("TO-01 CN-11 CN-13 CN-23", source=INITIALIZE)
@NO_TIMEOUTS
def test_time_for_a_startup_packet_is_limited(cluster: Cluster) -> None:
    """authentication_timeout disconnects a client without a whole startup packet. The child exits
    with 1, and neither the client nor the log gets a message."""
    then = cluster.since()
    with cluster.session() as session:
        # Not earlier: the timeout must not end the session above.
        cluster.reload(authentication_timeout=f"{TIME_FOR_A_PACKET_S:.0f}s")
        then.expect_log('^parameter "authentication_timeout" changed to ')
        begun = time.monotonic()
        silent, half = cluster.silent_client(), cluster.silent_client()
        half.client.send_bytes(startup_packet({"user": "postgres"})[:-1])
        cluster.request_shutdown(SMART, logged=True)
        refused = cluster.silent_client()
        clients = {client.child.pid: client for client in (silent, half, refused)}
        for client in clients.values():
            assert client.client.receive_rest(AT_MOST_S * cluster.scale) == b""
            assert time.monotonic() - begun > TIME_FOR_A_PACKET_S - 0.1
        for pid in clients:
            record = then.expect_log(rf"\(PID {pid}\) exited with exit code")
            assert record.message.endswith(" 1")
            said = then.log(pid=pid)
            assert [record for record in said if record.level != "DEBUG"] == []
        assert session.query("select 1") == [("1",)]
    cluster.expect_exit(code=0)


@claim("CN-11", source=INITIALIZE)
@settings(pre_auth_delay="1s")
@NO_TIMEOUTS
def test_pre_auth_delay_delays_a_client(cluster: Cluster) -> None:
    """pre_auth_delay delays a client by that time; then the client is admitted."""
    begun = time.monotonic()
    with cluster.session() as session:
        assert time.monotonic() - begun > 0.95
        assert session.query("select 1") == [("1",)]


@claim(
    "CN-11",
    source="postinit.c: InitPostgres(); bgworker.c: BackgroundWorkerMain()",
    needs=[Need.FULL_SQL, Need.WALSENDER],
)
@NO_TIMEOUTS
def test_post_auth_delay_delays_each_new_backend(cluster: Cluster) -> None:
    """post_auth_delay delays each new session, walsender and background worker."""

    def seconds(what: Callable[[], object]) -> float:
        begun = time.monotonic()
        what()
        return time.monotonic() - begun

    with cluster.session() as session:
        run_in_parallel(session)
        then = cluster.since()
        cluster.reload(post_auth_delay="1s")
        then.expect_log('^parameter "post_auth_delay" changed to ')
        assert seconds(lambda: cluster.session().query("select 1")) > 0.95
        assert seconds(lambda: cluster.session(parameters={"replication": "true"})) > 0.95
        # A background worker waits when it starts, and again after it connects to its database.
        assert seconds(lambda: session.query("select count(*) from pg_class")) > 1.95


# Log lines of a connection.

RECEIPT = "connection received: host=[local]"
AUTHENTICATED = 'connection authenticated: user="postgres" method=trust'
AUTHORIZED = "connection authorized: user=postgres database=postgres application_name=someone"
READY = "connection ready: setup total="
ON = [RECEIPT, AUTHENTICATED, AUTHORIZED]
LOGGED = {
    "receipt": [RECEIPT],
    "authentication": [AUTHENTICATED],
    "authorization": [AUTHORIZED],
    "setup_durations": [READY],
    "all": [*ON, READY],
    "off": [],
    "on": ON,
    "false": [],
    "TRUE": ON,
    "no": [],
    "Yes": ON,
    "0": [],
    "1": ON,
    "": [],
    "receipt,Setup_Durations": [RECEIPT, READY],
    "AUTHORIZATION, authentication": [AUTHENTICATED, AUTHORIZED],
}
NOT_ALLOWED = ("on,receipt", "off,all", "receipt,on", "receipts", "receipt,,all")


def lines_of(cluster: Cluster, session: Session, then: Since) -> list[str]:
    """Return the log lines of this connection, without parts that vary from run to run."""
    pid = session.backend_pid
    messages = [r.message for r in then.log() if r.pid == pid and r.level == "LOG"]
    lines = [line for line in messages if line.startswith("connection ")]
    return [re.sub(r" \(.*\)$|(?<=setup total=).*", "", line) for line in lines]


@claim("CN-22", source=LOG_OPTIONS, since=18)
@PACKETS
def test_log_connections_selects_the_lines(cluster: Cluster) -> None:
    """log_connections is a list of aspects, or one boolean as before 18, or "all"."""
    cluster.reload(log_connections="never")
    for value, expected in LOGGED.items():
        then = cluster.since()
        cluster.reload(log_connections=value)
        then.expect_log(f'parameter "log_connections" changed to "{value}"')
        with cluster.session(parameters={"application_name": "someone"}) as session:
            assert lines_of(cluster, session, then) == expected, value
    for value in NOT_ALLOWED:
        then = cluster.since()
        cluster.reload(log_connections=value)
        line = f'^invalid value for parameter "log_connections": "{value}"$'
        assert then.expect_log(line).level == "LOG"


@claim("CN-22", source="postmaster.c: BackendInitialize()", until=17)
@settings(log_connections="on")
@PACKETS
def test_log_connections_until_17(cluster: Cluster) -> None:
    """Until 17 log_connections is on or off."""
    then = cluster.since()
    with cluster.session(parameters={"application_name": "someone"}) as session:
        first = [RECEIPT, *([AUTHENTICATED] if cluster.major >= 17 else [])]
        assert lines_of(cluster, session, then) == [*first, AUTHORIZED]


@claim("CN-22", source="launch_backend.c: postmaster_child_launch()", since=18)
@settings(log_connections="setup_durations")
@PACKETS
def test_durations_of_a_connections_setup(cluster: Cluster) -> None:
    """The total includes fork and authentication, and is not longer than the client measures."""
    then = cluster.since()
    begun = time.monotonic()
    with cluster.session():
        seen_ms = (time.monotonic() - begun) * 1000
        message = then.expect_log("^connection ready: ").message
    number = r"(\d+\.\d{3}) ms"
    form = f"connection ready: setup total={number}, fork={number}, authentication={number}"
    found = re.fullmatch(form, message)
    assert found is not None, message
    total, fork, authentication = (float(text) for text in found.groups())
    assert 0 < fork < total
    assert 0 < authentication < total
    assert fork + authentication <= total <= seen_ms + 100


@claim("CN-22 TI-20", source=INITIALIZE, needs=[Need.TCP, Need.PROCESS_TITLES])
@settings(listen_addresses="127.0.0.1", log_connections="on")
@PACKETS
def test_address_of_a_client(cluster: Cluster) -> None:
    """Over TCP the log line and the child's title have the client's address and port."""
    then = cluster.since()
    with cluster.session(tcp=True) as session:
        with socket.socket(fileno=os.dup(session.client.fileno())) as same:
            port = same.getsockname()[1]
        assert then.find_log(f"^connection received: host=127.0.0.1 port={port}$")
        cluster.expect_title(session, rf"^postgres: postgres postgres 127.0.0.1\({port}\) idle$")


@claim("CN-11", source=INITIALIZE, needs=[Need.TCP, Need.PROCESS_TITLES])
@settings(listen_addresses="127.0.0.1", log_connections="on", log_hostname="on")
@PACKETS
def test_name_of_a_clients_host(cluster: Cluster) -> None:
    """With log_hostname the log line and the title have the host name of the address."""
    name = socket.getnameinfo(("127.0.0.1", 1), socket.NI_NUMERICSERV)[0]
    then = cluster.since()
    with cluster.session(tcp=True) as session:
        assert then.find_log(f"^connection received: host={name} port=")
        cluster.expect_title(session, rf"^postgres: postgres postgres {name}\(")
