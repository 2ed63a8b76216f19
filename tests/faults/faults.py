"""Mutants of the bundled server: each one wrong token, and the scenario that must fail on it.

planting.py makes the mutant and runs the scenario.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One mutant.

    Args:
        name: what is wrong, as an identifier.
        doc: the same as a sentence.
        module: the file to change, below pglife_impl.
        old: the text to replace, which must occur there exactly once.
        new: its replacement.
        scenario: the scenario that must fail: `test_name[id]`.
        symptom: a part of the failure's text, so that no other failure passes for this one.
    """

    name: str
    doc: str
    module: str
    old: str
    new: str
    scenario: str
    symptom: str

    def __str__(self) -> str:
        return self.name


FAULTS = [
    Fault(
        "one_child_slot_too_many",
        "One client more than max_connections allows gets a child slot.",
        "base/kinds.py",
        "2 * (max_connections + max_wal_senders)",
        "2 * (max_connections + max_wal_senders) + 1",
        "test_killed_dead_end_child_is_a_crash",
        "dead-end client backend (PID",
    ),
    Fault(
        "siblings_get_no_sigquit",
        "After a crash no child is sent SIGQUIT.",
        "postmaster/crash.py",
        "signal.SIGABRT if abort else signal.SIGQUIT",
        "signal.SIGABRT if abort else signal.SIGURG",
        "test_crash_sends_quit_to_all_children",
        "SIGQUIT",
    ),
    Fault(
        "smart_accepts",
        "During a smart shutdown new clients are admitted.",
        "postmaster/shutdown.py",
        "step.pm.conns_allowed = False",
        "step.pm.conns_allowed = True",
        "test_smart_shutdown_ends_with_the_last_session",
        "a new client is refused",
    ),
    Fault(
        "smart_does_not_wait",
        "A smart shutdown does not wait for open sessions.",
        "postmaster/state_machine.py",
        "step.pm.count_children({Kind.BACKEND}) == 0",
        "step.pm.count_children({Kind.BACKEND}) >= 0",
        "test_smart_shutdown_ends_with_the_last_session",
        "'terminating connection due to administrator command'",
    ),
    Fault(
        "immediate_is_fast",
        "SIGQUIT requests a fast shutdown.",
        "postmaster/loop.py",
        "self.note_shutdown(Shutdown.IMMEDIATE)",
        "self.note_shutdown(Shutdown.FAST)",
        "test_shutdown_without_sessions[immediate]",
        "aborting any active transactions",
    ),
    Fault(
        "no_sigkill",
        "The SIGKILL round sends SIGTERM.",
        "postmaster/crash.py",
        "step.terminate_children(signum)",
        "step.terminate_children(signal.SIGTERM)",
        "test_crash_during_a_shutdown_starts_the_sigkill_timeout",
        "the postmaster's exit",
    ),
    Fault(
        "sigkill_too_early",
        "The SIGKILL timeout is one second instead of five.",
        "postmaster/crash.py",
        "SIGKILL_CHILDREN_AFTER_S = 5",
        "SIGKILL_CHILDREN_AFTER_S = 1",
        "test_crash_during_a_shutdown_starts_the_sigkill_timeout",
        "NOT_BEFORE_S",
    ),
    Fault(
        "pid_file_left",
        "The postmaster does not remove postmaster.pid.",
        "data_directory/lockfile.py",
        "for path in reversed(self.paths):",
        "for path in reversed(self.paths[1:]):",
        "test_shutdown_without_sessions[fast]",
        "cluster.pid_file() is None",
    ),
    Fault(
        "socket_lock_left",
        "The postmaster does not remove the lock file of its socket.",
        "data_directory/lockfile.py",
        "for path in reversed(self.paths):",
        "for path in reversed(self.paths[:1]):",
        "test_shutdown_without_sessions[fast]",
        "nothing is left of the server after its end",
    ),
    Fault(
        "wrong_sqlstate_in_recovery",
        "A client refused because of a crash gets 57P01 instead of 57P03.",
        "backend/refusals.py",
        'SqlState.CANNOT_CONNECT_NOW, "the database system is in recovery mode"',
        'SqlState.ADMIN_SHUTDOWN, "the database system is in recovery mode"',
        "test_new_clients_are_refused_while_children_end",
        "57P01",
    ),
    Fault(
        "wrong_sqlstate_at_shutdown",
        "A session ended by a fast shutdown gets 57P02 instead of 57P01.",
        "session/interrupts.py",
        'fatal(SqlState.ADMIN_SHUTDOWN, "terminating connection due to administrator command")',
        'fatal(SqlState.CRASH_SHUTDOWN, "terminating connection due to administrator command")',
        "test_fast_shutdown_sends_fatal_to_each_session[idle]",
        "57P02",
    ),
    Fault(
        "background_writer_not_restarted",
        "A background writer that exits in PM_RUN is not replaced.",
        "postmaster/launch.py",
        "return pm.state in (PM.STARTUP, PM.RECOVERY, PM.HOT_STANDBY, PM.RUN)",
        "return pm.state in (PM.STARTUP, PM.RECOVERY, PM.HOT_STANDBY)",
        "test_background_process_that_exits_0_is_replaced[background-writer-SIGTERM]",
        "another child of kind background writer",
    ),
    Fault(
        "checkpointer_stopped_too_early",
        "The checkpointer is stopped together with the io workers.",
        "postmaster/state_machine.py",
        "step.signal_children(signal.SIGUSR2, {Kind.IO_WORKER})",
        "step.signal_children(signal.SIGUSR2, {Kind.IO_WORKER, Kind.CHECKPOINTER})",
        "test_io_workers_are_not_replaced_when_they_are_to_end",
        "checkpointer process (PID",
    ),
    Fault(
        "io_workers_stopped_too_early",
        "The io workers are stopped before the shutdown checkpoint.",
        "postmaster/state_machine.py",
        "step.signal_children(signal.SIGINT, {Kind.CHECKPOINTER})",
        "step.signal_children(signal.SIGINT, {Kind.CHECKPOINTER, Kind.IO_WORKER})",
        "test_shutdown_signals_checkpointer_then_io_workers_then_checkpointer",
        "io worker: expected nothing, pending SIGINT",
    ),
    Fault(
        "io_workers_not_stopped",
        "In PM_WAIT_IO_WORKERS the io workers are sent no SIGUSR2.",
        "postmaster/state_machine.py",
        "step.signal_children(signal.SIGUSR2, {Kind.IO_WORKER})",
        "step.signal_children(signal.SIGURG, {Kind.IO_WORKER})",
        "test_shutdown_without_sessions[fast]",
        "the postmaster's exit",
    ),
    Fault(
        "fatal_error_not_set",
        "FatalError is not set by a crash.",
        "postmaster/crash.py",
        "pm.fatal_error = True",
        "pm.fatal_error = False",
        "test_crash_while_a_smart_shutdown_waits",
        "exit status 1 of the postmaster",
    ),
    Fault(
        "restart_after_crash_ignored",
        "The server restarts although restart_after_crash is off.",
        "postmaster/state_machine.py",
        "elif not step.config.restart_after_crash:",
        "elif False:",
        "test_no_restart_with_restart_after_crash_off[walwriter]",
        "the postmaster's exit",
    ),
    Fault(
        "logger_exit_is_a_crash",
        "An exit of the logger is a crash.",
        "postmaster/reaping.py",
        "yield from logger_exited(step, event)",
        "child_crashed(step, name, event.pid, event.status)",
        "test_killed_logger_is_replaced_and_named[SIGKILL]",
        "terminating any other active server processes",
    ),
    Fault(
        "background_writer_exit_0_is_a_crash",
        "A background writer that exits 0 is a crash.",
        "base/kinds.py",
        'title="background writer ",\n'
        "        attached=Attached.AUXILIARY,\n"
        "        good_exits=ONLY_0",
        'title="background writer ",\n'
        "        attached=Attached.AUXILIARY,\n"
        "        good_exits=frozenset()",
        "test_background_process_that_exits_0_is_replaced[background-writer-SIGTERM]",
        "no other child exits",
    ),
    Fault(
        "session_exit_1_is_a_crash",
        "A session that ends with FATAL is a crash.",
        "base/kinds.py",
        'title="",\n        attached=Attached.BACKEND,\n        good_exits=ZERO_OR_1',
        'title="",\n        attached=Attached.BACKEND,\n        good_exits=ONLY_0',
        "test_term_ends_a_session_with_1",
        "assert <Level.LOG: 'LOG'> == 'DEBUG'",
    ),
    Fault(
        "session_leaves_its_slot_dirty",
        "A session that ends does not mark its child slot as detached.",
        "backend/main.py",
        "self.world.shmem.set_slot_flag(self.birth.slot, SlotFlag.ASSIGNED)",
        "self.world.shmem.set_slot_flag(self.birth.slot, SlotFlag.ACTIVE)",
        "test_smart_shutdown_ends_with_the_last_session",
        "terminating any other active server processes",
    ),
    Fault(
        "wrong_refusal_after_a_crash",
        "While children quit after a crash, clients read that the system is starting up.",
        "postmaster/admit.py",
        "return Cac.RECOVERY",
        "return Cac.STARTUP",
        "test_new_clients_are_refused_while_children_end",
        "the database system is starting up",
    ),
    Fault(
        "ready_while_stopping",
        "postmaster.pid says `ready` during a shutdown.",
        "postmaster/shutdown.py",
        "step.pid_status(PidStatus.STOPPING)",
        "step.pid_status(PidStatus.READY)",
        "test_smart_shutdown_ends_with_the_last_session",
        "PidFileStatus.STOPPING",
    ),
    Fault(
        "exit_0_after_a_crash_in_shutdown",
        "A shutdown in which a child crashed ends with status 0.",
        "postmaster/state_machine.py",
        "step.ask(Exit(ExitCode.ABNORMAL))",
        "step.ask(Exit(ExitCode.NORMAL))",
        "test_crash_while_a_smart_shutdown_waits",
        "exit status 1 of the postmaster",
    ),
    Fault(
        "dead_end_children_not_stopped",
        "At the end of a shutdown dead-end children are sent no SIGTERM.",
        "postmaster/state_machine.py",
        "step.signal_children(signal.SIGTERM, ALL_BUT_LOGGER)",
        "step.signal_children(signal.SIGURG, ALL_BUT_LOGGER)",
        "test_silent_client_that_connects_during_a_shutdown[fast]",
        "the postmaster's exit",
    ),
    Fault(
        "reload_during_fast",
        "SIGHUP is served during a fast shutdown.",
        "postmaster/shutdown.py",
        "if step.pm.shutdown > Shutdown.SMART:",
        "if step.pm.shutdown > Shutdown.FAST:",
        "test_reload_beside_a_fast_request",
        "received SIGHUP",
    ),
    Fault(
        "second_request_ignored",
        "After a first shutdown request a stronger one is ignored.",
        "postmaster/shutdown.py",
        "if mode <= step.pm.shutdown:",
        "if step.pm.shutdown:",
        "test_requests_only_get_stronger[fast-immediate]",
        "received immediate shutdown request",
    ),
    Fault(
        "title_without_its_space",
        "The walwriter's title lacks the space before its activity.",
        "base/kinds.py",
        '"walwriter ",',
        '"walwriter",',
        "test_titles_of_background_processes",
        "postgres: walwriter'",
    ),
    Fault(
        "cancel_ends_the_session",
        "A cancelled statement ends its session.",
        "session/interrupts.py",
        "Interrupt.CANCEL: lambda: error(",
        "Interrupt.CANCEL: lambda: fatal(",
        "test_int_cancels_the_running_statement",
        "assert 'FATAL' == 'ERROR'",
    ),
    Fault(
        "launcher_forgotten_after_a_crash",
        "The logical replication launcher is not restarted after a crash.",
        "postmaster/state_machine.py",
        "if worker.restart_s is not None",
        "if worker.restart_s is None",
        "test_killed_background_process_causes_a_crash_restart[walwriter]",
        "the server to be ready with all its children",
    ),
    Fault(
        "shutdown_checkpoint_unrecorded",
        "The shutdown checkpoint leaves the control file at `shutting down`.",
        "roles/checkpointer.py",
        "Flag.IMMEDIATE, DbState.SHUTDOWNED)",
        "Flag.IMMEDIATE, DbState.SHUTDOWNING)",
        "test_shutdown_without_sessions[fast]",
        "ControlState.SHUTTING_DOWN",
    ),
    Fault(
        "checkpointer_obeys_term",
        "The checkpointer ends on TERM.",
        "roles/checkpointer.py",
        "signal.SIGTERM: Reaction.IGNORE",
        "signal.SIGTERM: Reaction.STOP",
        "test_background_process_survives_its_harmless_signals[checkpointer]",
        "no other child exits",
    ),
    Fault(
        "io_worker_obeys_term",
        "An io worker ends on TERM.",
        "roles/io_worker.py",
        "signal.SIGTERM: Reaction.IGNORE",
        "signal.SIGTERM: Reaction.STOP",
        "test_io_worker_survives_its_harmless_signals",
        "no other child exits",
    ),
    Fault(
        "pmstate_line_missing",
        "Changes of pmState are logged at debug3 only.",
        "postmaster/step.py",
        'self.log(Level.DEBUG1, f"updating PMState',
        'self.log(Level.DEBUG3, f"updating PMState',
        "test_title_of_a_session_follows_its_state",
        "the model does not explain what was seen",
    ),
    Fault(
        "wrong_parting_words",
        "After a crash sessions read of an immediate shutdown.",
        "postmaster/crash.py",
        "step.quit_reason(reason)",
        "step.quit_reason(QuitReason.FOR_STOP)",
        "test_sessions_are_warned_of_a_crash_elsewhere",
        "57P01",
    ),
    Fault(
        "every_exit_is_announced",
        "Exits that the crash itself caused are logged as crashes.",
        "postmaster/crash.py",
        "if quitting(step.pm) and not",
        "if False and not",
        "test_deaths_reaped_together_are_one_crash",
        "exactly these lines of the postmaster",
    ),
    Fault(
        "failed_fork_keeps_its_slot",
        "The slot of a child that could not be forked is not given back.",
        "postmaster/step.py",
        "self.pm.give_slot_back(fork.kind, fork.slot)",
        "pass",
        "test_a_fork_that_failed_gives_its_slot_back",
        "a new client is admitted",
    ),
    Fault(
        "failed_fork_is_reported_in_another_form",
        "A client that gets no process receives a message of unknown type.",
        "postmaster/perform.py",
        'f"Ecould not fork',
        'f"Fcould not fork',
        "test_a_client_receives_the_fork_failure",
        "answer_of_the_postmaster",
    ),
    Fault(
        "orphans_of_a_start_without_startup_process",
        "A postmaster that cannot fork its startup process exits before the other children.",
        "postmaster/launch.py",
        "if step.pm.count_children(ALL_BUT_LOGGER) == 0:",
        "if step.pm.count_children(ALL_BUT_LOGGER) >= 0:",
        "test_the_startup_process_of_a_start_cannot_be_forked",
        "a postmaster that has waited for all its children",
    ),
    Fault(
        "sleeps_without_checkpointer",
        "A shutdown for which no checkpointer can be forked waits for the exit of a child.",
        "postmaster/state_machine.py",
        "consider_abort=False)\n        yield from wait_backends(step)",
        "consider_abort=False)",
        "test_no_checkpointer_can_be_forked_and_no_child_is_left",
        "it has no child, its timer has expired",
    ),
]
