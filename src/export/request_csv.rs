//! `request.csv`: one row for each request.

use std::io::{self, Write};

use super::Outcome;
use super::spreadsheet::Csv;
use super::times::{Calendar, Millis};
use crate::model::Request;

const COLUMNS: [&str; 9] = [
    "http_rid",
    "start_datetime",
    "recv_token_size",
    "reply_token_size",
    "execution_time(ms)",
    "queue_wait_time(ms)",
    "first_token_latency(ms)",
    "cache_hit_rate",
    "start_time(ms)",
];

/// Whether the id stands in the table: empty ids, and those that msServiceProfiler's readers take for lists or
/// mappings, do not.
pub fn is_listed(id: &str) -> bool {
    !id.is_empty() && !id.contains([',', '{', ':'])
}

/// Writes the requests.
///
/// # Errors
/// The writer fails.
pub fn write(requests: &[Request], calendar: &mut Calendar, out: impl Write) -> io::Result<Outcome> {
    if !requests.iter().any(|request| is_listed(&request.id)) {
        return Ok(Outcome::Nothing("no record names a request (attribute rid)"));
    }
    let says_something = |request: &Request| {
        let tokens = [request.prompt_tokens, request.output_tokens];
        request.arrival.is_some()
            || request.queue_wait.is_some()
            || tokens.into_iter().flatten().any(|count| count != 0)
    };
    if !requests.iter().any(says_something) {
        let why = "no request has an arrival, a queue wait or a number of tokens (httpReq, Enqueue, httpRes)";
        return Ok(Outcome::Nothing(why));
    }
    let mut rows = 0;
    let mut csv = Csv::new(out);
    csv.write_record(COLUMNS)?;
    for request in requests.iter().filter(|request| is_listed(&request.id)) {
        let number = |count: Option<i64>| count.map(|n| n.to_string()).unwrap_or_default();
        let millis = |nanos: u64| Millis(nanos as i64).to_string();
        csv.write_record([
            request.id.as_str(),
            request.arrival.map(|time| calendar.text(time)).unwrap_or_default(),
            &number(request.prompt_tokens),
            &number(request.output_tokens),
            &request.latency().map(millis).unwrap_or_default(),
            &millis(request.queue_wait.unwrap_or_default()),
            &millis(request.first_token().unwrap_or_default()),
            &request.cache_hit.map_or("N/A".to_owned(), |share| share.to_string()),
            &request.arrival.map(|time| millis(time.0)).unwrap_or_default(),
        ])?;
        rows += 1;
    }
    csv.flush()?;
    Ok(Outcome::Rows(rows))
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;
    use crate::clock::Nanos;

    fn text(requests: &[Request]) -> Result<String, Outcome> {
        let mut out = Vec::new();
        match write(requests, &mut Calendar::new(TimeZone::UTC), &mut out).unwrap() {
            Outcome::Rows(_) => Ok(String::from_utf8(out).unwrap()),
            other => Err(other),
        }
    }

    #[test]
    fn a_request_has_its_times_in_milliseconds_with_their_fraction() {
        let request = Request {
            id: "cmpl-1".into(),
            arrival: Some(Nanos(1_700_000_000_000_000_500)),
            end: Some(Nanos(1_700_000_000_250_000_500)),
            prompt_tokens: Some(64),
            output_tokens: Some(32),
            queue_wait: Some(1_250_000),
            first_output: Some(Nanos(1_700_000_000_010_500_500)),
            cache_hit: Some(0.5),
            ..Request::default()
        };
        let arrived_before = Request { id: "cmpl-2".into(), output_tokens: Some(7), ..Request::default() };
        let listed_nowhere = Request { id: "a,b".into(), ..Request::default() };
        assert_eq!(
            text(&[request, arrived_before, listed_nowhere]).unwrap(),
            "http_rid,start_datetime,recv_token_size,reply_token_size,execution_time(ms),queue_wait_time(ms),\
             first_token_latency(ms),cache_hit_rate,start_time(ms)\n\
             cmpl-1,2023-11-14 22:13:20:000000,64,32,250.000000,1.250000,10.500000,0.5,1700000000000.000500\n\
             cmpl-2,,,7,,0.000000,0.000000,N/A,\n"
        );
    }

    #[test]
    fn requests_that_never_ended_are_listed() {
        let arrived = Request { id: "x".into(), arrival: Some(Nanos(1)), ..Request::default() };
        let waited = Request { id: "x".into(), queue_wait: Some(1), ..Request::default() };
        assert!(text(&[arrived]).is_ok());
        assert!(text(&[waited]).is_ok());
    }

    #[test]
    fn without_any_number_there_is_no_table() {
        assert!(text(&[]).is_err());
        assert!(text(&[Request { id: "x".into(), ..Request::default() }]).is_err());
    }
}
