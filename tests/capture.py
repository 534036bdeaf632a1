"""Reads captures through Perfetto's official schema, independently of our own reader, for tests."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from perfetto.protos.perfetto.trace.perfetto_trace_pb2 import ClockSnapshot, Trace, TracePacket, TrackEvent

REALTIME = ClockSnapshot.Clock.BuiltinClocks.REALTIME
BOOTTIME = ClockSnapshot.Clock.BuiltinClocks.BOOTTIME
DOES_NOT_NEST = "does_not_nest"
STATE_CLEARED = TracePacket.SEQ_INCREMENTAL_STATE_CLEARED


@dataclass
class Event:
    """A span or an instant. `start` is unix nanoseconds; `duration` is None for a span that never ended."""

    domain: str
    name: str
    start: int
    duration: int | None
    pid: int
    tid: int
    track: int
    """The track's own number: spans of one track nest, those of coroutines have tracks of their own."""
    attributes: dict[str, Any]
    flow_ids: list[int]

    @property
    def end(self) -> int:
        """When the span ended; only for those that did."""
        assert self.duration is not None, f"{self.name} never ended"
        return self.start + self.duration


@dataclass
class _Track:
    parent: int = 0
    pid: int = 0
    tid: int = 0


@dataclass
class _Sequence:
    """What later packets of one sequence refer to."""

    clock: int = 0
    track: int = 0
    clocks: dict[int, int] = field(default_factory=dict)
    names: dict[tuple[str, int], str] = field(default_factory=dict)


class Capture:
    """All events of a folder: one session, or everything below the `prof_dir`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = sorted(folder.rglob("*.pftrace"))
        self.events: list[tuple[str, Event]] = []
        """Each with its type: `span`, `instant` or `meta`."""
        self.process_names: dict[int, str] = {}
        self.thread_names: dict[int, str] = {}
        self.counters: list[tuple[str, float]] = []
        """Each value with the name of what it is of, by file and time."""
        for file in self.files:
            _File(self).read(Trace.FromString(file.read_bytes()))
        self.events.sort(key=lambda event: event[1].start)

    @cached_property
    def spans(self) -> list[Event]:
        """By start."""
        return [event for kind, event in self.events if kind == "span"]

    @cached_property
    def instants(self) -> list[Event]:
        """By time, without what the recorder says of itself."""
        return [event for kind, event in self.events if kind == "instant"]

    @cached_property
    def meta(self) -> list[Event]:
        """What the recorder says of itself, and meta data of the user."""
        return [event for kind, event in self.events if kind == "meta"]

    @property
    def dropped(self) -> int:
        """Events that found a full ring."""
        return sum(event.attributes["count"] for event in self.meta if event.name == "dropped")

    def named(self, name: str) -> list[Event]:
        """Spans and instants of one name."""
        return [event for kind, event in self.events if kind != "meta" and event.name == name]


class _File:
    """One file on its way into a capture."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._tracks: dict[int, _Track] = {}
        self._sequences: dict[int, _Sequence] = {}
        self._open: dict[int, list[Event]] = {}
        self._counters: dict[int, str] = {}
        self._realtime_offset: int | None = None

    def read(self, trace: Any) -> None:
        for packet in trace.packet:
            sequence = self._sequence(packet)
            self._learn(packet, sequence)
            if packet.HasField("track_event"):
                self._track_event(packet, sequence)

    def _sequence(self, packet: Any) -> _Sequence:
        key = packet.trusted_packet_sequence_id
        if packet.sequence_flags & STATE_CLEARED or key not in self._sequences:
            self._sequences[key] = _Sequence()
        return self._sequences[key]

    def _learn(self, packet: Any, sequence: _Sequence) -> None:
        """Clocks, defaults, names and tracks."""
        if packet.HasField("clock_snapshot"):
            clocks = {clock.clock_id: clock.timestamp for clock in packet.clock_snapshot.clocks}
            sequence.clocks |= clocks
            if self._realtime_offset is None and REALTIME in clocks:
                self._realtime_offset = clocks[REALTIME] - clocks[BOOTTIME]
        if packet.HasField("trace_packet_defaults"):
            sequence.clock = packet.trace_packet_defaults.timestamp_clock_id
            sequence.track = packet.trace_packet_defaults.track_event_defaults.track_uuid
        interned = packet.interned_data
        for kind, entries in (
            ("category", interned.event_categories),
            ("event", interned.event_names),
            ("annotation", interned.debug_annotation_names),
        ):
            sequence.names |= {(kind, entry.iid): entry.name for entry in entries}
        values = interned.debug_annotation_string_values
        sequence.names |= {("value", entry.iid): entry.str.decode() for entry in values}
        if packet.HasField("track_descriptor"):
            self._describe(packet.track_descriptor)

    def _describe(self, descriptor: Any) -> None:
        track = _Track(parent=descriptor.parent_uuid)
        if descriptor.HasField("process"):
            track.pid = descriptor.process.pid
            self._capture.process_names[track.pid] = descriptor.process.process_name
        if descriptor.HasField("counter"):
            self._counters[descriptor.uuid] = descriptor.name
        if descriptor.HasField("thread"):
            track.pid, track.tid = descriptor.thread.pid, descriptor.thread.tid
            self._capture.thread_names[track.tid] = descriptor.thread.thread_name
        self._tracks[descriptor.uuid] = track

    def _time(self, packet: Any, sequence: _Sequence) -> int:
        clock = packet.timestamp_clock_id or sequence.clock or BOOTTIME
        now: int = packet.timestamp
        if clock >= 64:  # the sequence's own clock counts from the packet before
            # A step back in time is a very large step forward.
            now = (now + sequence.clocks[clock]) % 2**64
            sequence.clocks[clock] = now
        assert self._realtime_offset is not None, "no clock snapshot before the first event"
        return now + self._realtime_offset

    def _track_event(self, packet: Any, sequence: _Sequence) -> None:
        event = packet.track_event
        now = self._time(packet, sequence)
        uuid = event.track_uuid or sequence.track
        attributes = {
            _name(annotation, sequence): _value(annotation, sequence)
            for annotation in event.debug_annotations
        }
        if event.type == TrackEvent.TYPE_COUNTER:
            value = event.double_counter_value or event.counter_value
            self._capture.counters.append((self._counters[uuid], value))
            return
        if event.type == TrackEvent.TYPE_SLICE_END:
            if not (spans := self._open.get(uuid)):
                return  # it began in a former file
            if DOES_NOT_NEST in attributes:
                # It is on a lane instead; here it has no duration.
                span = spans.pop(-1 - attributes[DOES_NOT_NEST])
                assert span.name == sequence.names["event", event.name_iid]
                assert span.start == now
                self._capture.events.remove(("span", span))
                return
            span = spans.pop()
            span.duration = now - span.start
            span.attributes |= attributes
            return
        categories = [*event.categories, *(sequence.names["category", iid] for iid in event.category_iids)]
        name = sequence.names["event", event.name_iid] if event.name_iid else event.name
        thread = self._thread(uuid)
        domain = categories[0] if categories else ""
        is_span = event.type == TrackEvent.TYPE_SLICE_BEGIN
        record = Event(
            domain=domain,
            name=name,
            start=now,
            duration=None if is_span else 0,
            pid=thread.pid,
            tid=thread.tid,
            track=uuid,
            attributes=attributes,
            flow_ids=list(event.flow_ids),
        )
        if is_span:
            self._open.setdefault(uuid, []).append(record)
            self._capture.events.append(("span", record))
        elif event.type == TrackEvent.TYPE_INSTANT:
            self._capture.events.append(("meta" if domain == "Meta" else "instant", record))

    def _thread(self, uuid: int) -> _Track:
        track = self._tracks[uuid]
        return track if track.pid or not track.parent else self._tracks[track.parent]


def _name(annotation: Any, sequence: _Sequence) -> str:
    name: str = sequence.names["annotation", annotation.name_iid] if annotation.name_iid else annotation.name
    return name


def _value(annotation: Any, sequence: _Sequence) -> Any:
    if annotation.dict_entries:
        return {_name(entry, sequence): _value(entry, sequence) for entry in annotation.dict_entries}
    if annotation.array_values:
        return [_value(entry, sequence) for entry in annotation.array_values]
    kind = annotation.WhichOneof("value")
    if kind == "nested_value":
        return {} if annotation.nested_value.nested_type == annotation.NestedValue.DICT else []
    if kind == "string_value_iid":
        return sequence.names["value", annotation.string_value_iid]
    return getattr(annotation, kind) if kind else None
