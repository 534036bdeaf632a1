//! Who a process is in its server, from the objects that it makes at its start. Looked at whether or not events are
//! collected then: servers are started first, and profiled later.

use std::fmt::Write as _;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyString;

use super::record::{argument, datum};
use crate::hook::{self, Attempt, Call, Interrupt};
use crate::recorder::{self, Role};

/// A role in the making.
#[derive(Default)]
struct Ranks(Role);

impl Ranks {
    fn of(name: &str) -> Self {
        Self(Role { name: name.into(), facts: Vec::new() })
    }

    /// A rank: said in the name where there is more than one such process.
    fn rank(&mut self, key: &'static str, short: &str, rank: i64, shown: bool) {
        if shown {
            let _ = write!(self.0.name, " {short}{rank}"); // into a text: can't fail
        }
        self.0.facts.push((key, rank.to_string()));
    }

    fn fact(&mut self, key: &'static str, value: String) {
        self.0.facts.push((key, value));
    }

    fn tell(self) {
        recorder::set_role(self.0);
    }
}

/// `AsyncLLM.__init__(self, vllm_config, …, client_count, client_index)`: an API server.
pub(super) fn api_server(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let number = |name: &Bound<'_, PyString>| match call.args.keyword(name) {
        Some(value) => value.extract::<i64>().optional(py),
        None => Ok(None),
    };
    let count = number(intern!(py, "client_count"))?.unwrap_or(1);
    let index = number(intern!(py, "client_index"))?.unwrap_or(0);
    let mut role = Ranks::of("API server");
    role.rank("apiServer", "", index, count > 1);
    role.tell();
    Ok(())
}

/// `EngineCore._initialize_kv_caches(self, vllm_config)`: an engine. Called in its constructor, which runs already
/// when plugins are loaded.
pub(super) fn engine_core(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let this = call.this()?.to_owned();
    let config = argument(call, 1, intern!(py, "vllm_config"))?;
    let parallel = datum(py, "VllmConfig.parallel_config", config.getattr(intern!(py, "parallel_config")))?;
    let mut role = Ranks::of("EngineCore");
    let index = int(&this, "engine_index")?;
    if let Some(parallel) = parallel {
        let (rank, is_one_of_many) = data_parallel(&parallel, index)?;
        role.rank("dpRankId", "dp", if is_one_of_many { rank } else { -1 }, is_one_of_many);
    }
    role.tell();
    Ok(())
}

/// `WorkerWrapperBase.init_device(self)` and the workers' own: a worker, with its ranks and its device.
pub(super) fn worker(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let this = call.this()?.to_owned();
    if call.proceed().is_none() {
        return Ok(());
    }
    let worker = this.getattr(intern!(py, "worker")).optional(py)?.unwrap_or(this);
    let parallel = worker.getattr(intern!(py, "parallel_config"));
    let Some(parallel) = datum(py, "Worker.parallel_config", parallel)? else { return Ok(()) };
    let rank = worker.getattr(intern!(py, "rank")).and_then(|it| it.extract::<i64>());
    let Some(rank) = datum(py, "Worker.rank", rank)? else { return Ok(()) };
    let size = |name: &str| Ok::<_, Interrupt>(int(&parallel, name)?.unwrap_or(1).max(1));
    let (tp, pp) = (size("tensor_parallel_size")?, size("pipeline_parallel_size")?);
    let (tp_rank, pp_rank) = (rank % tp, rank / tp % pp);
    let (dp_rank, is_one_of_many) = data_parallel(&parallel, None)?;
    let mut role = Ranks::of("Worker");
    role.rank("dpRankId", "dp", if is_one_of_many { dp_rank } else { -1 }, is_one_of_many);
    role.rank("ppRank", "pp", pp_rank, pp > 1);
    role.rank("tpRank", "tp", tp_rank, tp > 1);
    let experts = parallel.getattr(intern!(py, "enable_expert_parallel")).and_then(|it| it.is_truthy());
    if experts.optional(py)?.unwrap_or(false) {
        role.rank("epRank", "ep", dp_rank * tp + tp_rank, true);
    }
    let device = worker.getattr(intern!(py, "device")).and_then(|device| device.str()?.extract());
    if let Some(device) = device.optional(py)? {
        role.fact("device", device);
    }
    role.tell();
    Ok(())
}

/// `DPEngineCoreProc.add_request(self, request, …)`, where msServiceProfiler looks at the engine's rank.
pub(super) fn engine_core_by_request(call: &mut Call<'_, '_>) -> PyResult<()> {
    let this = call.this()?.to_owned();
    if let Some(rank) = int(&this, "dp_rank")? {
        let mut role = Ranks::of("EngineCore");
        role.rank("dpRankId", "dp", rank, true);
        role.tell();
    }
    Ok(())
}

/// `NPUModelRunner.execute_model(self, …)`, where msServiceProfiler looks at the worker's rank.
pub(super) fn worker_by_runner(call: &mut Call<'_, '_>) -> PyResult<()> {
    let this = call.this()?.to_owned();
    if let Some(rank) = int(&this, "dp_rank")?.filter(|_| !recorder::has_role()) {
        let mut role = Ranks::of("Worker");
        role.rank("dpRankId", "dp", rank, true);
        role.tell();
    }
    Ok(())
}

/// The data-parallel rank, and whether there is more than one.
fn data_parallel(parallel: &Bound<'_, PyAny>, index: Option<i64>) -> Result<(i64, bool), Interrupt> {
    // An engine that is independent of its siblings is told that it is alone; the index still is its own.
    let index = index.map_or_else(|| int(parallel, "data_parallel_index"), |index| Ok(Some(index)))?;
    let rank = match index.filter(|index| *index > 0) {
        Some(index) => index,
        None => int(parallel, "data_parallel_rank")?.unwrap_or(0),
    };
    let is_alone = rank == 0 && int(parallel, "data_parallel_size")?.unwrap_or(1) <= 1;
    Ok((rank, !is_alone || is_titled_as_one_of_many(parallel)?))
}

/// Whether vLLM has titled this process as one of several engines. It does so too where it tells an engine that it is
/// alone, as it does from 0.14 on where engines share no experts; before, the title says so in any case.
fn is_titled_as_one_of_many(parallel: &Bound<'_, PyAny>) -> Result<bool, Interrupt> {
    let py = parallel.py();
    let tells = parallel.hasattr(intern!(py, "data_parallel_index")).optional(py)?.unwrap_or(false);
    let title = || std::fs::read("/proc/self/cmdline");
    Ok(tells && title().is_ok_and(|title| String::from_utf8_lossy(&title).contains("_DP")))
}

/// `Scheduler.__init__(self, …)` of SGLang.
pub(super) fn sglang_scheduler(call: &mut Call<'_, '_>) -> PyResult<()> {
    let this = call.this()?.to_owned();
    if call.proceed().is_none() {
        return Ok(());
    }
    let py = call.py;
    let arguments = this.getattr(intern!(py, "server_args")).optional(py)?;
    let size = |name: &str| match &arguments {
        Some(arguments) => Ok::<_, Interrupt>(int(arguments, name)?.unwrap_or(1)),
        None => Ok(1),
    };
    // In newer versions the ranks are in an object of their own; in the newest the process has one.
    let global = || hook::import(py, "sglang.srt.managers.scheduler")?.getattr("get_parallel")?.call0();
    let ranks = match this.getattr(intern!(py, "ps")).optional(py)? {
        Some(ranks) => ranks,
        None => global().optional(py)?.unwrap_or_else(|| this.clone()),
    };
    let rank = |name: &str| match int(&this, name)? {
        Some(rank) => Ok::<_, Interrupt>(Some(rank)),
        None => int(&ranks, name),
    };
    let mut role = Ranks::of("Scheduler");
    let many = size("dp_size")? > 1;
    role.rank("dpRankId", "dp", rank("dp_rank")?.filter(|_| many).unwrap_or(-1), many);
    role.rank("ppRank", "pp", rank("pp_rank")?.unwrap_or(0), size("pp_size")? > 1);
    role.rank("tpRank", "tp", rank("tp_rank")?.unwrap_or(0), size("tp_size")? > 1);
    role.rank("epRank", "ep", rank("moe_ep_rank")?.unwrap_or(0), size("ep_size")? > 1);
    if let Some(gpu) = rank("gpu_id")? {
        role.fact("device", format!("gpu {gpu}"));
    }
    role.tell();
    Ok(())
}

/// `TokenizerManager.__init__(self, …)` of SGLang: the process of its HTTP server.
pub(super) fn sglang_tokenizer(_: &mut Call<'_, '_>) -> PyResult<()> {
    Ranks::of("Tokenizer manager").tell();
    Ok(())
}

/// `DetokenizerManager.__init__(self, …)` of SGLang.
pub(super) fn sglang_detokenizer(_: &mut Call<'_, '_>) -> PyResult<()> {
    Ranks::of("Detokenizer").tell();
    Ok(())
}

fn int(object: &Bound<'_, PyAny>, name: &str) -> Result<Option<i64>, Interrupt> {
    let py = object.py();
    object.getattr(PyString::intern(py, name)).and_then(|value| value.extract()).optional(py)
}
