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
use crate::schema::reference::{Row, SECTIONS, plain};

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
const STATUSES: [(&str, &str); 7] = [
    ("0", "It went well."),
    ("1", "Refused, or not verified."),
    ("2", "Of plan: something would change; of status --check: something fails."),
    ("64", "The command line is wrong."),
    ("69", "No daemon can be reached."),
    ("74", "Input or output failed."),
    ("78", "The configuration is wrong; of run also: an admin has to look at the store."),
];

/// What one does in the first hour.
const EXAMPLES: [(&str, &str); 6] = [
    ("bellpull check", "Every error of the configuration at once, each with its line."),
    ("bellpull poll orders --dry-run", "What a bridge finds now, and what would be sent; nothing is written."),
    ("bellpull listen", "A receiver for a try, which shows and verifies what it gets."),
    ("bellpull status", "How bridges and endpoints stand."),
    ("bellpull deliveries --state dead", "Events that no receiver took, with its words."),
    ("bellpull replay --dead", "Sends them again."),
];

#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write bellpull.1, a page for each command and bridges.toml.5 into this directory
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
    let parts = [("EXAMPLES", EXAMPLES.as_slice()), ("FILES", FILES.as_slice()), ("EXIT STATUS", STATUSES.as_slice())];
    for (title, rows) in parts {
        more.control("SH", [title]);
        rows.iter().for_each(|(name, about)| entry(&mut more, name, about));
    }
    more.control("SH", ["SEE ALSO"]);
    more.text([bold("bridges.toml"), roman("(5)")]);
    more.to_writer(&mut page)?;
    Ok(page)
}

fn entry(page: &mut Roff, name: &str, about: &str) {
    page.control("TP", []);
    page.text([bold(name)]);
    page.text([roman(about)]);
}

/// bridges.toml(5): every key, of the declarations that its reader takes.
fn file_page() -> io::Result<Vec<u8>> {
    let mut page = Roff::default();
    page.control(
        "TH",
        ["bridges.toml", "5", "", concat!("bellpull ", env!("CARGO_PKG_VERSION")), "File Formats Manual"],
    );
    page.control("SH", ["NAME"]);
    page.text([roman("bridges.toml - what bellpull polls, and where it sends what changed")]);
    page.control("SH", ["DESCRIPTION"]);
    let about = "TOML 1.0. bellpull check shows every error of it. Below is each key, what counts where it is absent, and what it \
                 means; a key of a table within another is written with dots.";
    page.text([roman(about)]);
    for section in &SECTIONS {
        page.control("SH", [section.title]);
        for Row { key, absent, text } in section.rows() {
            let absent = if absent.is_empty() { String::new() } else { format!("[{}] ", plain(&absent)) };
            entry(&mut page, &key, &format!("{absent}{}", plain(&text)));
        }
    }
    page.control("SH", ["SEE ALSO"]);
    page.text([bold(NAME), roman("(1)")]);
    let mut out = Vec::new();
    page.to_writer(&mut out)?;
    Ok(out)
}

fn write(dir: &Path, page: &[u8]) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    clap_mangen::generate_to(Cli::command(), dir)?;
    // The one that has more than its definitions say.
    std::fs::write(dir.join(format!("{NAME}.1")), page)?;
    std::fs::write(dir.join("bridges.toml.5"), file_page()?)
}
