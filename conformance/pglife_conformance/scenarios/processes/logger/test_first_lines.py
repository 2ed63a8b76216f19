"""The first bytes of a log file.

Source: postmaster/syslogger.c: SysLoggerMain().
"""

import re

from pglife_conformance.base.needs import Need
from pglife_conformance.cluster.cluster import Cluster
from pglife_conformance.pytest.claims import claim, settings
from pglife_conformance.scenarios.processes.logger.test_lifecycle import log_file

HEAD = re.compile(rb"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} \S+ \[(\d+)\] [A-Z]+\d?:  ")


@claim("LG-01", source="syslogger.c: SysLoggerMain()", needs=[Need.LOGGER])
@settings(logging_collector="on")
def test_log_file_begins_with_the_postmasters_words(cluster: Cluster) -> None:
    """The first byte of a log file is the first byte of a log line."""
    head = HEAD.match(log_file(cluster).read_bytes())
    assert head is not None
    assert int(head[1]) == cluster.pid
