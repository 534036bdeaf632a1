//! The processes in front of SGLang's scheduler: requests are tokenized and sent, tokens become text.

use pyo3::intern;
use pyo3::prelude::*;

use super::{ids_of, texts};
use crate::clock::Ticks;
use crate::event::Label;
use crate::handlers::record::{
    BOOTSTRAP_ROOM, RID, STREAM, append_ids, argument, datum, each, event, label, span,
};
use crate::hook::{Attempt, Call, Ending, Follower, append_error, with_buffer};
use crate::recorder::{self, AsyncOpen};

/// `normalize_batch_and_arguments(self)`: a request has come in; it gets its id here.
pub(in crate::handlers) fn http_request(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let ticks = Ticks::now();
    let request = call.this()?.to_owned();
    if call.proceed().is_none() {
        return Ok(());
    }
    let room = request.getattr(intern!(py, "bootstrap_room")).and_then(|room| room.extract::<Option<i64>>());
    let room = room.optional(py)?.flatten();
    for rid in datum(py, "GenerateReqInput.rid", ids_of(&request))?.unwrap_or_default() {
        event(label!("Request", "httpReq"), ticks, |attributes| {
            attributes.key(*RID).id(&rid);
            if let Some(room) = room {
                attributes.key(*BOOTSTRAP_ROOM).int(room);
            }
        });
    }
    Ok(())
}

/// `async _tokenize_one_request(self, obj)`.
pub(in crate::handlers) fn tokenize(call: &mut Call<'_, '_>) -> PyResult<()> {
    let request = argument(call, 1, intern!(call.py, "obj"))?;
    follow(call, label!("Request", "tokenize"), &request)
}

/// `async _batch_tokenize_and_process(self, batch_size, obj)`.
pub(in crate::handlers) fn tokenize_batch(call: &mut Call<'_, '_>) -> PyResult<()> {
    let request = argument(call, 2, intern!(call.py, "obj"))?;
    follow(call, label!("Request", "tokenize"), &request)
}

/// `_send_one_request(self, [obj,] tokenized_obj)` and `_send_batch_request`, coroutines in newer versions.
pub(in crate::handlers) fn send(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let names = [intern!(py, "obj"), intern!(py, "tokenized_obj"), intern!(py, "tokenized_objs")];
    let request = names.into_iter().find_map(|name| argument(call, 1, name).ok());
    let Some(request) = request else { return Ok(()) };
    follow(call, label!("Request", "send_to_scheduler.dispatch"), &request)
}

/// `handle_batch_token_id_out(self, recv_obj)`: tokens become text.
pub(in crate::handlers) fn detokenize(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let batch = argument(call, 1, intern!(py, "recv_obj"))?;
    span(call, label!("Request", "detokenize"), |_, _, attributes| {
        let ids = batch.getattr(intern!(py, "rids")).and_then(|ids| texts(&ids));
        if let Some(ids) = datum(py, "BatchTokenIDOutput.rids", ids)? {
            append_ids(attributes, &ids);
        }
        Ok(())
    })
}

/// `async _wait_one_response(self, obj, …)`, in newer versions `_stream_one_response`: an event for each piece of the
/// answer.
pub(in crate::handlers) fn response(call: &mut Call<'_, '_>) -> PyResult<()> {
    let py = call.py;
    let request = argument(call, 1, intern!(py, "obj"))?;
    let stream = request.getattr(intern!(py, "stream")).and_then(|stream| stream.is_truthy());
    let stream = stream.optional(py)?.unwrap_or(false);
    let Some(ids) = datum(py, "GenerateReqInput.rid", ids_of(&request))? else { return Ok(()) };
    call.when_ended(Ending::Handler(Box::new(Response { ids, stream })));
    Ok(())
}

struct Response {
    ids: Vec<String>,
    stream: bool,
}

impl Follower for Response {
    fn started(&mut self, _: Python<'_>) -> PyResult<()> {
        Ok(())
    }

    fn wants_items(&self) -> bool {
        true
    }

    fn item(&mut self, ticks: Ticks) {
        for rid in &self.ids {
            event(label!("Request", "httpRes"), ticks, |attributes| {
                attributes.key(*RID).id(rid);
                attributes.key(*STREAM).bool(self.stream);
            });
        }
    }

    fn ended(self: Box<Self>, _: Python<'_>, _: Result<&Bound<'_, PyAny>, &PyErr>, _: Ticks) -> PyResult<()> {
        Ok(())
    }
}

/// A span of the call, or of the coroutine that it makes, with the ids of a request or of a list of them.
fn follow(call: &mut Call<'_, '_>, label: Label, request: &Bound<'_, PyAny>) -> PyResult<()> {
    let py = call.py;
    let ids = match each(request).optional(py)? {
        Some(requests) => requests.iter().map(ids_of).collect::<PyResult<Vec<_>>>().map(|it| it.concat()),
        None => ids_of(request),
    };
    let ids = datum(py, "a request's rid", ids)?.unwrap_or_default();
    if call.is_followed() {
        call.when_ended(Ending::Handler(Box::new(Spanned { label, ids, open: None })));
        return Ok(());
    }
    span(call, label, |_, _, attributes| {
        append(attributes, &ids);
        Ok(())
    })
}

/// One id is a text, several are a list.
fn append(attributes: &mut crate::event::Attributes, ids: &[String]) {
    match ids {
        [] => {}
        [rid] => attributes.key(*RID).id(rid),
        ids => append_ids(attributes, ids),
    }
}

struct Spanned {
    label: Label,
    ids: Vec<String>,
    open: Option<AsyncOpen>,
}

impl Follower for Spanned {
    fn started(&mut self, _: Python<'_>) -> PyResult<()> {
        self.open = recorder::async_begin(self.label, Ticks::now());
        Ok(())
    }

    fn ended(
        self: Box<Self>,
        py: Python<'_>,
        outcome: Result<&Bound<'_, PyAny>, &PyErr>,
        ticks: Ticks,
    ) -> PyResult<()> {
        let Some(open) = self.open else { return Ok(()) };
        with_buffer(|attributes| {
            append(attributes, &self.ids);
            if let Err(error) = outcome {
                append_error(attributes, error, py);
            }
            recorder::async_end(open, self.label, ticks, attributes.as_bytes());
        });
        Ok(())
    }
}
