"""The built-in handlers on objects in the shapes of SGLang, old and new, under its real module paths."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from capture import Capture
from program import Program

VERSIONS = ["0.5.4", "0.5.23"]

SCHEDULE_BATCH = """
class Req:
    def __init__(self, rid, prompt):
        self.rid, self.origin_input_ids, self.output_ids = rid, prompt, []
        self.prefix_indices, self.fill_ids = [], []
    def init_next_round_input(self, tree_cache=None):
        self.fill_ids = self.origin_input_ids + self.output_ids
        self.prefix_indices = self.fill_ids[: len(self.fill_ids) // 2]
    def finished(self): return len(self.output_ids) >= 2

class Mode:
    def __init__(self, decode): self.decode = decode
    def is_decode(self): return self.decode
    def is_extend(self): return not self.decode

class ScheduleBatch:
    def __init__(self, reqs, decode): self.reqs, self.forward_mode = reqs, Mode(decode)
    def retract_decode(self): pass
"""

PROCESSOR = """
class {name}:
    def process_batch_result_prefill(self, batch, result):
        for req in batch.reqs:
            req.output_ids.append(1)
    def process_batch_result_decode(self, batch, result):
        for req in batch.reqs:
            req.output_ids.append(1)
        batch.reqs = [req for req in batch.reqs if not req.finished()]
"""

SCHEDULER = """
from types import SimpleNamespace as Box
from sglang.srt.managers.schedule_batch import Req, ScheduleBatch
from {processor_module} import {processor}
{receiver_import}

class Pool:
    def available_size(self): return 100
class Tree:
    def evictable_size(self): return 20

class Scheduler({base}):
    def __init__(self, tp_rank, server_args):
        self.server_args, self.tp_rank, self.gpu_id = server_args, tp_rank, tp_rank
        self.disaggregation_mode = Box(name="NULL")
        self.waiting_queue, self.inbox = [], []
        self.token_to_kv_pool_allocator, self.tree_cache = Pool(), Tree()
        self.batch_result_processor = self if {is_old} else {processor}()
        if not {is_old}:
            self.batch_result_processor.token_to_kv_pool_allocator = Pool()
            self.batch_result_processor.tree_cache = Tree()
    {receive}
    def handle_generate_request(self, recv_req):
        self._add_request_to_queue(Req(recv_req.rid, recv_req.input_ids))
    def handle_embedding_request(self, recv_req): pass
    def _add_request_to_queue(self, req, is_retracted=False): self.waiting_queue.append(req)
    def get_new_batch_prefill(self, *running):
        reqs, self.waiting_queue = self.waiting_queue, []
        for req in reqs:
            req.init_next_round_input(self.tree_cache)
        batch = ScheduleBatch(reqs, False) if reqs else None
        return batch if {is_old} else Box(batch_to_run=batch, running_batch=None)
    def get_next_batch_to_run(self, running=None, *more):
        new = self.get_new_batch_prefill()
        batch = (new if {is_old} else new.batch_to_run) or running
        return batch if {is_old} else Box(batch_to_run=batch)
    def run_batch(self, batch): return "result"
    def process_batch_result(self, batch, result):
        if batch.forward_mode.is_decode():
            self.batch_result_processor.process_batch_result_decode(batch, result)
        else:
            self.batch_result_processor.process_batch_result_prefill(batch, result)
"""

TOKENIZER = """
class TokenizerManager:
    def __init__(self): self.rid_to_state = {}
    async def _tokenize_one_request(self, obj): return obj
    async def _batch_tokenize_and_process(self, batch_size, obj): return [obj]
    {send} _send_one_request(self, {first}tokenized_obj): pass
    {send} _send_batch_request(self, {first}tokenized_objs): pass
    async def generate_request(self, obj):
        obj.normalize_batch_and_arguments()
        await self._tokenize_one_request(obj)
        {wait}self._send_one_request({sent}obj)
        async for piece in self._wait_one_response(obj):
            yield piece
    {response}
"""
STREAM = """async def {name}(self, obj, state=None, request=None):
        for piece in range(3):
            yield piece
"""

OTHERS = {
    "managers/io_struct.py": """
class GenerateReqInput:
    def __init__(self, rid, stream=True):
        self.rid, self.stream, self.bootstrap_room, self.input_ids = None, stream, 9, [1] * 6
        self.wanted = rid
    def normalize_batch_and_arguments(self): self.rid = self.wanted
class EmbeddingReqInput(GenerateReqInput):
    def normalize_batch_and_arguments(self): self.rid = self.wanted
""",
    "managers/detokenizer_manager.py": """
class DetokenizerManager:
    def __init__(self): pass
    def handle_batch_token_id_out(self, recv_obj): return len(recv_obj.rids)
""",
    "model_executor/forward_batch_info.py": """
class ForwardBatch:
    @classmethod
    def init_new(cls, batch, model_runner): return cls()
""",
    "model_executor/model_runner.py": """
class ModelRunner:
    def forward(self, batch): return 1
    def sample(self, batch): return 2
    def load_model(self): pass
""",
    "mem_cache/radix_cache.py": """
class RadixCache:
    def match_prefix(self): pass
    def evict(self): pass
""",
}


def write(folder: Path, version: str) -> Path:
    """Writes the package `sglang` of that version; gives the folder for `PYTHONPATH`."""
    is_old = version == "0.5.4"
    if is_old:
        module, name = "scheduler_output_processor_mixin", "SchedulerOutputProcessorMixin"
        receive, receiver = "def recv_requests(self): return self.inbox", ""
        response = STREAM.format(name="_wait_one_response")
        sends = {"send": "def", "first": "obj, ", "wait": "", "sent": "obj, "}
    else:
        module, name = "scheduler_components/batch_result_processor", "SchedulerBatchResultProcessor"
        receive = "def receive(self): return SchedulerRequestReceiver(self.inbox).recv_requests()"
        receiver = (
            "from sglang.srt.managers.scheduler_components.request_receiver import SchedulerRequestReceiver"
        )
        response = (
            "def _wait_one_response(self, obj, request=None):\n"
            "        return self._stream_one_response(obj=obj, state=None)\n    "
            + STREAM.format(name="_stream_one_response")
        )
        sends = {"send": "async def", "first": "", "wait": "await ", "sent": ""}
    modules = OTHERS | {
        "managers/schedule_batch.py": SCHEDULE_BATCH,
        f"managers/{module}.py": PROCESSOR.format(name=name),
        "managers/scheduler_components/request_receiver.py": (
            "class SchedulerRequestReceiver:\n"
            "    def __init__(self, inbox): self.inbox = inbox\n"
            "    def recv_requests(self, local_reqs=None): return self.inbox\n"
        ),
        "managers/scheduler.py": SCHEDULER.format(
            processor_module=f"sglang.srt.managers.{module}".replace("/", "."),
            processor=name,
            base=name if is_old else "object",
            is_old=is_old,
            receive=receive,
            receiver_import=receiver,
        ),
        "managers/tokenizer_manager.py": TOKENIZER.replace("{}", "{{}}").format(response=response, **sends),
    }
    for path, code in modules.items():
        file = folder / "sglang" / "srt" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        for package in file.relative_to(folder).parents:
            (folder / package / "__init__.py").touch()
        file.write_text(code)
    (folder / "sglang" / "version.py").write_text(f"__version__ = {version!r}\n")
    return folder


SERVE = """
import asyncio
from types import SimpleNamespace as Box
from sglang.srt.managers.detokenizer_manager import DetokenizerManager
from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.managers.schedule_batch import ScheduleBatch
from sglang.srt.managers.scheduler import Scheduler
from sglang.srt.managers.tokenizer_manager import TokenizerManager
from sglang.srt.model_executor.forward_batch_info import ForwardBatch
from sglang.srt.model_executor.model_runner import ModelRunner

async def ask():
    manager = TokenizerManager()
    return [piece async for piece in manager.generate_request(GenerateReqInput("r0"))]
assert asyncio.run(ask()) == [0, 1, 2]

scheduler = Scheduler(1, Box(tp_size=2, dp_size=1))
scheduler.inbox = [Box(rid="r0", input_ids=[1] * 6), Box(batch=[Box(rid="r1"), Box(rid="r2")]), Box()]
received = scheduler.recv_requests() if hasattr(scheduler, "recv_requests") else scheduler.receive()
scheduler.handle_generate_request(received[0])
plan = scheduler.get_next_batch_to_run()
batch = getattr(plan, "batch_to_run", plan)
runner = ModelRunner()
ForwardBatch.init_new(batch, runner)
runner.forward(batch), runner.sample(batch)
scheduler.process_batch_result(batch, scheduler.run_batch(batch))
decode = ScheduleBatch(batch.reqs, True)
plan = scheduler.get_next_batch_to_run(decode)
scheduler.process_batch_result(decode, scheduler.run_batch(decode))
for _ in range(1000):
    scheduler.get_next_batch_to_run()  # an idle server
DetokenizerManager().handle_batch_token_id_out(Box(rids=["r0", "r1"]))
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_request_s_way_through_the_server(program: Program, version: str) -> None:
    folder = write(program.folder / "package", version)
    del program.environment["PROFILING_SYMBOLS_PATH"]  # the built-in pack
    _, err = program.run(SERVE, PYTHONPATH=str(folder))
    assert f"sglang {version}" in err
    assert "could not be read" not in err
    assert "handler failed" not in err
    capture = program.capture()
    told = {(event.domain, event.name) for event in [*capture.spans, *capture.instants]}
    assert told >= {
        ("Request", "httpReq"),
        ("Request", "tokenize"),
        ("Request", "send_to_scheduler.dispatch"),
        ("Request", "httpRes"),
        ("Request", "generate"),
        ("Request", "detokenize"),
        ("Schedule", "recvReq"),
        ("Schedule", "processReq"),
        ("Schedule", "Enqueue"),
        ("Schedule", "Dequeue"),
        ("Schedule", "Queue"),
        ("Schedule", "batchFrameworkProcessing"),
        ("KVCache", "allocate"),
        ("KVCache", "free"),
        ("HitCache", "HitCache"),
        ("ModelExecute", "modelExec"),
        ("ModelExecute", "postprocess"),
        ("ModelExecute", "preprocess"),
        ("ModelExecute", "forward"),
        ("ModelExecute", "sample"),
        ("Request", "PrefillEnd"),
        ("Request", "DecodeEnd"),
    }
    check_attributes(capture)


@pytest.mark.parametrize("version", VERSIONS)
def test_what_the_server_asks_itself_is_no_request(program: Program, version: str) -> None:
    """Health checks and the gRPC server's warm-up have ids of the server's own making."""
    code = """
import asyncio
from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.managers.tokenizer_manager import TokenizerManager

async def ask(rid):
    async for _ in TokenizerManager().generate_request(GenerateReqInput(rid)):
        pass

for rid in ("WARMUP_1700000000.25", "HEALTH_CHECK_1700000000.5", "r0", "WARMUP_of_a_client"):
    asyncio.run(ask(rid))
"""
    folder = write(program.folder / "package", version)
    del program.environment["PROFILING_SYMBOLS_PATH"]  # the built-in pack
    program.run(code, PYTHONPATH=str(folder))
    output = program.folder / "output"
    done = program.command("parse", "--input-path", str(program.prof_dir), "--output-path", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    with (output / "request.csv").open(newline="") as file:
        assert [row["http_rid"] for row in csv.DictReader(file)] == ["r0", "WARMUP_of_a_client"]


def check_attributes(capture: Capture) -> None:
    one = {
        name: capture.named(name)[0].attributes
        for name in {event.name for _, event in capture.events}
        if capture.named(name)
    }
    assert one["httpReq"] == {"rid": "r0", "bootstrap_room": 9}
    assert one["tokenize"] == one["send_to_scheduler.dispatch"] == {"rid": "r0"}
    assert [event.attributes for event in capture.named("httpRes")] == [{"rid": "r0", "stream": True}] * 3
    assert [event.attributes["rid"] for event in capture.named("recvReq")] == ["r0", "r1", "r2"]
    assert one["Enqueue"] == one["Dequeue"] == {"rid": "r0", "scope#QueueName": "WAITING"}
    assert [event.attributes["QueueSize="] for event in capture.named("Queue")] == [1, 0]
    steps = [span.attributes for span in capture.named("batchFrameworkProcessing")]
    assert steps == [{"rid": ["r0"], "batch_type": kind} for kind in ("prefill", "decode")]
    assert one["allocate"] == {"FreeBlocks=": 100, "fullEvictableSize=": 20}
    assert one["HitCache"] == {"rid": "r0", "hitRate=": "0.5"}
    assert one["PrefillEnd"] == {"rid": "r0", "recvTokenSize=": 6, "replyTokenSize=": 1}
    ends = [event.attributes for event in capture.named("DecodeEnd")]
    assert {"rid": "r0", "recvTokenSize=": 6, "replyTokenSize=": 2} in ends
    assert {"rid": ["r0"]} in ends
    assert one["detokenize"] == {"rid": ["r0", "r1"]}
    # All three were made in one process here.
    assert set(capture.process_names.values()) == {"Detokenizer"}


EVERYWHERE = """
import sys
from sglang.srt.managers import scheduler
from sglang.srt.managers.detokenizer_manager import DetokenizerManager
from sglang.srt.managers.io_struct import GenerateReqInput
from sglang.srt.managers.schedule_batch import Mode, Req, ScheduleBatch
from sglang.srt.managers.scheduler import Pool, Scheduler, Tree
from sglang.srt.managers.tokenizer_manager import TokenizerManager
from sglang.srt.model_executor.forward_batch_info import ForwardBatch

left = None  # questions until the interrupt
interrupt = None

def ask(depth):
    global left
    if left is not None and sys._getframe(depth).f_code is drive.__code__:  # by a handler
        left -= 1
        if left == 0:
            raise interrupt

class Box:
    def __init__(self, **values):
        self.__dict__.update(values)

class Items(list):
    # How many there are and which is asked as well; also of the lists that a handler makes of them.
    def __len__(self):
        ask(2)
        return list.__len__(self)
    def __iter__(self):
        ask(2)
        return list.__iter__(self)

class Truth:
    def __init__(self, value): self.value = value
    def __bool__(self):
        ask(2)
        return self.value

class Text(str):
    pass

def asked(self, name):
    ask(2)
    return object.__getattribute__(self, name)

scheduler.Box = Box
processor = type(Scheduler(0, Box()).batch_result_processor)
kinds = (Box, Req, Mode, ScheduleBatch, Scheduler, Pool, Tree, GenerateReqInput, TokenizerManager, processor)
for kind in kinds:
    kind.__getattribute__ = asked

def finished(self):
    ask(2)
    return Truth(True)
Req.finished = finished
Mode.is_decode = lambda self: Truth(False)
Mode.is_extend = lambda self: Truth(True)

def drive(method, *arguments):
    return method(*arguments)

def req():
    it = Req(Text("r0"), Items([1, 2]))
    it.output_ids, it.fill_ids, it.prefix_indices = Items([3]), Items([1, 2, 3]), Items([1])
    return it

def batch():
    return ScheduleBatch([req(), req()], False)

def waiting():
    it = Scheduler(1, Box())
    it.waiting_queue = Items([req(), req()])
    return it

def receiver():
    inbox = Items([Box(rid="r0"), Box(batch=Items([Box(rid=Items(["r1", "r2"]))]))])
    if hasattr(Scheduler, "recv_requests"):
        it = Scheduler(1, Box())
        it.inbox = inbox
        return it
    from sglang.srt.managers.scheduler_components.request_receiver import SchedulerRequestReceiver
    return SchedulerRequestReceiver(inbox)

def ended():
    # The originals do less here than the handlers, and change nothing of their batch.
    return Scheduler(1, Box()).batch_result_processor

def wanted(rid="r0"):
    it = GenerateReqInput(rid, stream=Truth(True))
    it.rid = rid
    return it

def sent(method):
    manager = TokenizerManager()
    method = getattr(manager, method)
    count = method.__code__.co_argcount - 1 if hasattr(method, "__code__") else 1
    return (method, *[wanted()] * OLD, wanted())

OLD = hasattr(Scheduler, "recv_requests")
answer = "_wait_one_response" if OLD else "_stream_one_response"
CASES = {
    "recv_requests": lambda: (receiver().recv_requests,),
    "handle_generate_request": lambda: (
        Scheduler(1, Box()).handle_generate_request, Box(rid="r", input_ids=[])),
    "handle_embedding_request": lambda: (Scheduler(1, Box()).handle_embedding_request, Box(rid="r")),
    "get_next_batch_to_run": lambda: (waiting().get_next_batch_to_run,),
    "run_batch": lambda: (Scheduler(1, Box()).run_batch, batch()),
    "process_batch_result": lambda: (Scheduler(1, Box()).process_batch_result, batch(), None),
    "init_new": lambda: (ForwardBatch.init_new, batch(), None),
    "_add_request_to_queue": lambda: (Scheduler(1, Box())._add_request_to_queue, req()),
    "get_new_batch_prefill": lambda: (waiting().get_new_batch_prefill,),
    "init_next_round_input": lambda: (req().init_next_round_input,),
    "process_batch_result_prefill": lambda: (ended().process_batch_result_prefill, batch(), None),
    "process_batch_result_decode": lambda: (ended().process_batch_result_decode, batch(), None),
    "normalize_batch_and_arguments": lambda: (GenerateReqInput("r0").normalize_batch_and_arguments,),
    "_tokenize_one_request": lambda: (TokenizerManager()._tokenize_one_request, wanted()),
    "_batch_tokenize_and_process": lambda: (
        TokenizerManager()._batch_tokenize_and_process, 1, wanted(Items(["r0", "r1"]))),
    "_send_one_request": lambda: sent("_send_one_request"),
    "_send_batch_request": lambda: sent("_send_batch_request"),
    "handle_batch_token_id_out": lambda: (
        DetokenizerManager().handle_batch_token_id_out, Box(rids=Items(["r0", "r1"]))),
    answer: lambda: (getattr(TokenizerManager(), answer), wanted()),
    "Scheduler": lambda: (Scheduler, 1, Box(tp_size=2, dp_size=1, pp_size=1, ep_size=1)),
}

def interrupts(make, kind):
    global left, interrupt
    question = 0
    while True:
        question += 1
        method, *arguments = make()
        left, interrupt = question, kind(3)
        try:
            made = drive(method, *arguments)
        except kind as error:
            assert error is interrupt
        else:
            if hasattr(made, "close"):
                made.close()  # a coroutine that nobody awaits
            if left > 0:
                return question - 1
            print(f"{method}: swallowed at question {question}")
        finally:
            left = None

for name, make in CASES.items():
    print(name, *{interrupts(make, kind) for kind in (KeyboardInterrupt, SystemExit)})
"""


@pytest.mark.parametrize("version", VERSIONS)
def test_an_interrupt_at_any_question_of_a_handler_reaches_the_caller(version: str, program: Program) -> None:
    folder = write(program.folder / "package", version)
    del program.environment["PROFILING_SYMBOLS_PATH"]  # the built-in pack
    out, err = program.run(EVERYWHERE, PYTHONPATH=str(folder))
    assert "swallowed" not in out
    assert "handler failed" not in err
    questions = dict(line.rsplit(maxsplit=1) for line in out.splitlines())
    assert len(questions) == 20
    assert not [name for name, count in questions.items() if count == "0"]
