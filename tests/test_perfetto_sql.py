"""The two independent readers that other tests rely on, checked on a trace made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import Trace, TrackEvent

from capture import Capture
from perfetto_sql import NODE, WHY_NOT, TraceProcessor

BOOTTIME, REALTIME, INCREMENTAL = 6, 1, 64
CLEARED, NEEDED = 1, 2


def small_trace() -> Any:
    """One process, one thread, a span with attributes and an instant inside it, on an incremental clock."""
    trace = Trace()
    process = trace.packet.add().track_descriptor
    process.uuid, process.process.pid, process.process.process_name = 1, 10, "server"
    thread = trace.packet.add().track_descriptor
    thread.uuid, thread.parent_uuid = 2, 1
    thread.thread.pid, thread.thread.tid, thread.thread.thread_name = 10, 11, "main"

    first = trace.packet.add(trusted_packet_sequence_id=7, sequence_flags=CLEARED | NEEDED)
    for clock, now in ((BOOTTIME, 1000), (REALTIME, 5_000_001_000)):
        first.clock_snapshot.clocks.add(clock_id=clock, timestamp=now)
    first.clock_snapshot.clocks.add(clock_id=INCREMENTAL, timestamp=1000, is_incremental=True)
    first.trace_packet_defaults.timestamp_clock_id = INCREMENTAL
    first.trace_packet_defaults.track_event_defaults.track_uuid = 2

    begin = trace.packet.add(trusted_packet_sequence_id=7, sequence_flags=NEEDED, timestamp=5)
    begin.interned_data.event_categories.add(iid=1, name="Execute")
    begin.interned_data.event_names.add(iid=1, name="forward")
    begin.interned_data.debug_annotation_names.add(iid=1, name="rid")
    event = begin.track_event
    event.type = TrackEvent.TYPE_SLICE_BEGIN
    event.category_iids.append(1)
    event.name_iid = 1
    annotation = event.debug_annotations.add(name_iid=1)
    for rid in ("a", "b"):
        annotation.array_values.add().dict_entries.add(name="rid", string_value=rid)

    instant = trace.packet.add(trusted_packet_sequence_id=7, sequence_flags=NEEDED, timestamp=10)
    instant.track_event.type = TrackEvent.TYPE_INSTANT
    instant.track_event.categories.append("Schedule")
    instant.track_event.name = "Enqueue"

    end = trace.packet.add(trusted_packet_sequence_id=7, sequence_flags=NEEDED, timestamp=20)
    end.track_event.type = TrackEvent.TYPE_SLICE_END
    end.track_event.debug_annotations.add(name="batch_size", int_value=2)
    return trace


def test_the_tests_reader_joins_spans_names_clocks_and_nested_attributes(tmp_path: Path) -> None:
    (tmp_path / "host-10.pftrace").write_bytes(small_trace().SerializeToString())
    capture = Capture(tmp_path)
    (span,) = capture.spans
    assert (span.domain, span.name, span.pid, span.tid) == ("Execute", "forward", 10, 11)
    assert (span.start, span.duration) == (5_000_001_005, 30)
    assert span.attributes == {"rid": [{"rid": "a"}, {"rid": "b"}], "batch_size": 2}
    (instant,) = capture.instants
    assert (instant.domain, instant.name, instant.start) == ("Schedule", "Enqueue", 5_000_001_015)


def test_the_tests_reader_reports_a_span_without_an_end_as_unfinished(tmp_path: Path) -> None:
    trace = small_trace()
    del trace.packet[-1]
    (tmp_path / "host-10.pftrace").write_bytes(trace.SerializeToString())
    capture = Capture(tmp_path)
    assert [span.duration for span in capture.spans] == [None]


@pytest.mark.skipif(not NODE, reason=WHY_NOT)
def test_the_real_trace_processor_reads_the_same() -> None:
    with TraceProcessor(small_trace().SerializeToString()) as processor:
        assert processor.errors() == []
        rows = processor.query(
            "select category, name, dur, 0.5 as half, null as missing from slice order by ts"
        )
        assert rows == [
            {"category": "Execute", "name": "forward", "dur": 30, "half": 0.5, "missing": None},
            {"category": "Schedule", "name": "Enqueue", "dur": 0, "half": 0.5, "missing": None},
        ]
        names = processor.query(
            "select p.name as process, t.name as thread"
            " from thread t join process p using (upid) where tid = 11"
        )
        assert names == [{"process": "server", "thread": "main"}]


@pytest.mark.skipif(not NODE, reason=WHY_NOT)
def test_the_real_trace_processor_says_what_is_wrong_with_a_query_or_a_trace() -> None:
    with (
        TraceProcessor(small_trace().SerializeToString()) as processor,
        pytest.raises(ValueError, match="nowhere"),
    ):
        processor.query("select * from nowhere")
    with pytest.raises(ValueError, match="refuses"):
        TraceProcessor(b"this is no trace")
