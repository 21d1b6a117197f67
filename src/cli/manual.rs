//! `completions` and `man`: what a shell and `man` know of the command line, made of the definitions that parse it.
//!
//! It installs nothing: where the files belong differs from system to system.

use std::{
    io,
    path::{Path, PathBuf},
};

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::{Cli, Done, Failure, IO, print};

const NAME: &str = "bellpull";

/// What an admin looks for and no option tells.
const FILES: [(&str, &str); 4] = [
    (
        "./bridges.toml, /etc/bellpull/bridges.toml",
        "The configuration: the first one that is there, unless --config names another.",
    ),
    ("/etc/bellpull/secrets", "Secrets, one a file, which the unit hands to the daemon as credentials."),
    ("/var/lib/bellpull", "The store of the unit's daemon; else daemon.state-dir."),
    ("/run/bellpull/admin.sock", "What the commands talk to; else daemon.socket."),
];

/// sysexits(3), as far as it is used.
const STATUSES: [(&str, &str); 6] = [
    ("0", "It went well."),
    ("1", "Refused, or not verified."),
    ("64", "The command line is wrong."),
    ("69", "No daemon can be reached."),
    ("74", "Input or output failed."),
    ("78", "The configuration is wrong; of run also: an admin has to look at the store."),
];

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write bellpull.1 and a page for each command into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Prints the script that completes bellpull's words in a shell.
pub fn completions(shell: Shell) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    print(&String::from_utf8_lossy(&script))
}

/// Prints the page of bellpull, or writes all pages.
pub fn man(args: &ManArgs) -> Done {
    let failed = |e: io::Error| Failure::new(IO, format!("failed to write the manual: {e}"));
    let page = page().map_err(failed)?;
    match &args.dir {
        Some(dir) => write(dir, &page).map_err(failed),
        None => print(&String::from_utf8_lossy(&page)),
    }
}

fn page() -> io::Result<Vec<u8>> {
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    let mut page = Vec::new();
    Man::new(command).render(&mut page)?;
    let mut more = Roff::default();
    for (title, rows) in [("FILES", FILES.as_slice()), ("EXIT STATUS", STATUSES.as_slice())] {
        more.control("SH", [title]);
        for (name, about) in rows {
            more.control("TP", []);
            more.text([bold(*name)]);
            more.text([roman(*about)]);
        }
    }
    more.to_writer(&mut page)?;
    Ok(page)
}

fn write(dir: &Path, page: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)?;
    // The one that has more than its definitions say.
    std::fs::write(dir.join(format!("{NAME}.1")), page)
}
