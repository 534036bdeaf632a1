//! What a trace file says about its process: names, command line. Read from the system when a session starts.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::role;
use crate::stem::CaptureId;
use crate::trace::Process;

/// What all captures of this process have in common and none of another: not that which it was before an `exec`, either.
pub(super) fn recorder() -> String {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let pid = u64::from(std::process::id());
    let mut number = NUMBER.load(Ordering::Relaxed);
    if number >> 32 != pid {
        // Also where it is a fork's copy.
        number = pid << 32 | CaptureId::random().0 & 0xffff_ffff;
        NUMBER.store(number, Ordering::Relaxed);
    }
    format!("{number:016x}")
}

/// This process, by its role in a server, or the name that it has now (servers rename themselves). `known_as` is a
/// better name than a command line for a process that has no title.
pub(super) fn process(known_as: Option<&str>) -> Process {
    let bytes = std::fs::read("/proc/self/cmdline").unwrap_or_default();
    let command: Vec<String> = bytes
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect();
    let has_title = command.first().is_some_and(|program| !is_python(program));
    let name = role::role().map_or_else(
        || known_as.filter(|_| !has_title).map_or_else(|| readable_name(&command), str::to_owned),
        |role| role.name,
    );
    Process { pid: std::process::id(), name, command }
}

/// `python /usr/bin/vllm serve MODEL` is `vllm serve`, `python -m pkg.mod` is `pkg.mod`; a process that has given
/// itself a title (`VLLM::EngineCore`) is called by it.
fn readable_name(command: &[String]) -> String {
    let Some(program) = command.first() else { return "process".into() };
    if !is_python(program) {
        return if program.starts_with('/') { base(program) } else { program.clone() };
    }
    let mut words = command[1..].iter().peekable();
    while let Some(option) = words.next_if(|word| word.starts_with('-') && *word != "-m" && *word != "-c") {
        if option == "-X" || option == "-W" {
            words.next(); // their value is a word of its own
        }
    }
    match words.next().map(String::as_str) {
        Some("-m") => words.next().cloned().unwrap_or_else(|| "python -m".into()),
        Some("-c") => match words.next() {
            Some(code) if code.contains("multiprocessing") => "python (multiprocessing)".into(),
            _ => "python -c".into(),
        },
        Some(script) => match words.next() {
            Some(verb) if verb.chars().all(|c| c.is_ascii_alphanumeric()) => {
                format!("{} {verb}", base(script))
            }
            _ => base(script),
        },
        None => "python".into(),
    }
}

fn is_python(program: &str) -> bool {
    base(program).starts_with("python")
}

fn base(word: &str) -> String {
    Path::new(word).file_name().map_or(word.into(), |name| name.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_called_as_a_person_would_call_it() {
        let cases: [(&[&str], &str); 7] = [
            (&["/venv/bin/python3.12", "/venv/bin/vllm", "serve", "model"], "vllm serve"),
            (&["python", "-X", "dev", "-m", "pkg.mod", "--flag"], "pkg.mod"),
            (&["python", "-u", "server.py", "--port", "1"], "server.py"),
            (&["python", "-c", "from multiprocessing.spawn import spawn_main"], "python (multiprocessing)"),
            (&["VLLM::EngineCore"], "VLLM::EngineCore"),
            (&["/opt/bin/server"], "server"),
            (&[], "process"),
        ];
        for (command, expected) in cases {
            let command: Vec<String> = command.iter().map(ToString::to_string).collect();
            assert_eq!(readable_name(&command), expected, "{command:?}");
        }
    }
}
