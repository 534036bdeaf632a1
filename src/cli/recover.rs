//! `msprof-rs recover`: completes the captures of killed processes, for tools that read no rings.

use std::path::PathBuf;

use super::report::say;
use super::{EXIT_DAMAGED, EXIT_FAILED, EXIT_FINE};
use crate::source::{self, Recovered};

#[derive(Debug, clap::Args)]
pub(super) struct Recover {
    /// Folder with the captures (*.pftrace); the folders in it are searched too
    #[arg(value_name = "DIR", default_value = ".")]
    folder: PathBuf,
}

impl Recover {
    pub(super) fn run(&self) -> u8 {
        let recovered = match source::recover(&self.folder) {
            Ok(recovered) => recovered,
            Err(error) => {
                log::error!("{error}");
                return EXIT_FAILED;
            }
        };
        let mut code = EXIT_FINE;
        for capture in &recovered {
            match capture {
                Recovered::Completed { file, events, damaged } => {
                    say(format_args!(
                        "{}: {events} events added from the rings of its process",
                        file.display()
                    ));
                    for ring in damaged {
                        code = EXIT_DAMAGED;
                        say(format_args!("{}: can't be read, or only in part; it was left", ring.display()));
                    }
                }
                Recovered::Whole(file) => say(format_args!("{}: nothing to do", file.display())),
                Recovered::Running(file) => {
                    say(format_args!("{}: its process still runs; left alone", file.display()));
                }
                Recovered::Unknown(file, reason) => {
                    code = EXIT_DAMAGED;
                    say(format_args!(
                        "{}: the rings of its process are left alone: {reason}",
                        file.display()
                    ));
                }
                Recovered::Failed(file, reason) => {
                    code = EXIT_DAMAGED;
                    say(format_args!("{}: {reason}; left as it was", file.display()));
                }
            }
        }
        code
    }
}
